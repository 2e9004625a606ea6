"""A classifier as ONNX graphs answers as the classifier does."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from fusion_classifier import FusionClassifier
from fusion_classifier.classifier.standalone import Classifier
from fusion_classifier.config import TrainingChanges
from fusion_classifier.encoders.spec import parse_encoder
from fusion_classifier.errors import FecError, UsageError
from fusion_classifier.features.arrays import FeatureShape, TokenStates
from fusion_classifier.fusion.registry import build_head, parse_head
from fusion_classifier.onnx_export import write
from fusion_classifier.onnx_export.graphs import export_head
from fusion_classifier.onnx_export.optimize import HeldOut, Optimized, optimize
from fusion_classifier.support.progress import QUIET
from fusion_classifier.training.decision import Decision

pytestmark = pytest.mark.slow  # many commands or trainings

TEXTS = [f"{text} {i}" for i in range(12) for text in ("we won", "he broke it", "it is dark")]
MOODS = ["joy", "anger", "fear"] * 12
SEVERAL = [["joy", "relief"], ["anger"], ["fear", "anger"]] * 12
FRESH = ["x", "is it? " * 60, "we won again", "Oh no! He broke my lamp, and it is dark now."]

Fit = Callable[..., FusionClassifier]


@pytest.fixture(scope="module")
def fit(tmp_path_factory: pytest.TempPathFactory) -> Fit:
    """Trains a classifier of few steps; its features are kept for the next."""
    store = tmp_path_factory.mktemp("store")

    def fitted(encoders: list[str], head: Any, labels: Any = None) -> FusionClassifier:
        training: TrainingChanges | None = {"max_epochs": 3, "min_steps": 0} if isinstance(head, str) else None
        classifier = FusionClassifier(encoders, head, training=training, store=store, device="cpu")
        return classifier.fit(TEXTS, MOODS if labels is None else labels)

    return fitted


def exported(classifier: FusionClassifier, folder: Path, *, encoders: bool = True, **options: Any) -> Optimized:
    """The classifier optimized in float32, unless `options` say something else."""
    classifier.save_pretrained(folder / "model")
    answers = classifier.config_.decision.labels(classifier.predict_proba(TEXTS))
    held_out = HeldOut(TEXTS, answers) if encoders else None
    given: dict[str, Any] = {"check": 6, "precisions": ("float32",), "max_loss": 100} | options
    return optimize(folder / "model", folder / "onnx", held_out, progress=QUIET, **given)


SHAPES: dict[str, dict[str, FeatureShape]] = {
    "tokens": {"a": FeatureShape((3, 24), ragged=True), "b": FeatureShape((2, 32), ragged=True)},
    "mixed": {"a": FeatureShape((3, 24), ragged=True), "b": FeatureShape((32,), ragged=False)},
    "pooled": {"a": FeatureShape((3, 24), ragged=False), "b": FeatureShape((32,), ragged=False)},
}
ONE = Decision(temperature=0.4, beta=-0.8)
UPPER = {"encoder": "a", "layers": 2, "heads": 3, "inner_width": 48, "norm_epsilon": 1e-5}
# An export takes some 15 seconds; the head `fusion` on token states is exported below.
HEADS: list[tuple[str, dict[str, object], str, int, Decision]] = [
    ("fusion", {"cooccurrence": 4, "width": 32}, "mixed", 5, Decision(temperature=1.3, thresholds=(0.3,) * 5)),
    ("linear", {}, "pooled", 5, Decision(temperature=0.4, beta=0.5)),
    ("linear", {"linear_layers": "last", "scaling": "standardize"}, "mixed", 5, ONE),
    ("llmembed", {"width": 16}, "mixed", 5, ONE),
    (
        "ensemble",
        {"attention": {"width": 16, "cooccurrence": 4}, "repeats": 2, "upper": UPPER},
        "tokens",
        5,
        Decision(),
    ),
    # Many labels: queries are shared.
    ("ensemble", {"attention": {"width": 16}}, "pooled", 300, Decision(temperature=2, thresholds=(0.3,) * 300)),
]


@pytest.mark.parametrize(("name", "options", "kind", "classes", "decision"), HEADS)
def test_a_heads_graph_gives_its_probabilities_of_any_batch(
    name: str, options: Mapping[str, object], kind: str, classes: int, decision: Decision, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    head = build_head(parse_head(name, **options), SHAPES[kind], classes).eval()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_(0, 0.3)
        head.mixture.uniform_(0.1, 1)
    export_head(head, decision, ["b"], tmp_path / "head.onnx")
    onnx.checker.check_model(str(tmp_path / "head.onnx"), full_check=True)
    session = onnxruntime.InferenceSession(tmp_path / "head.onnx", providers=["CPUExecutionProvider"])
    for texts, tokens in ((1, 1), (7, 40), (3, 2)):
        inputs: dict[str, np.ndarray] = {}
        batch: dict[str, torch.Tensor | TokenStates] = {}
        for number, (encoder, shape) in enumerate(SHAPES[kind].items()):
            length = tokens + 2 * number
            size = (texts, length, *shape.shape) if shape.ragged else (texts, shape.layers, shape.width)
            features = torch.randn(size)
            inputs[f"features_{number}"] = features.numpy()
            kept = (features * 16).round().clamp(-127, 127) if encoder == "b" else features  # in 8 bits
            if shape.ragged:
                mask = torch.rand(texts, length) > 0.4  # holes, as special tokens leave
                mask[:, -1] = True
                inputs[f"counted_mask_{number}"] = mask.long().numpy()
                batch[encoder] = TokenStates(kept[mask], mask.sum(1))
            else:
                batch[encoder] = kept
        with torch.inference_mode():
            expected, pooled = head(batch), head.unit_vectors(batch)
        logits, probabilities, vectors = session.run(["logits", "probabilities", "vectors"], inputs)
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
        np.testing.assert_allclose(probabilities, decision.probabilities(expected), atol=1e-4)
        np.testing.assert_allclose(vectors, pooled, atol=1e-5)


def test_calibration_in_float32_is_that_of_float64(tmp_path: Path) -> None:
    from fusion_classifier.onnx_export.graphs import probabilities

    logits = torch.tensor([[80.0, 0, -3], [12.0, 11.9, 0], [1e-3, 0, 0], [40.0, 20.0, 0]])
    for beta in (-5.0, -0.8, 0.5, 0.95):
        decision = Decision(temperature=0.5, beta=beta)
        np.testing.assert_allclose(probabilities(logits, decision), decision.probabilities(logits), atol=2e-6)


@pytest.fixture(scope="module")
def token_states(
    fit: Fit, bert_folder: Path, llama_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[FusionClassifier, Path]:
    """Head `fusion` on token states of a BERT with, and a Llama without special tokens; its export."""
    classifier = fit([f"{bert_folder}?pooling=tokens&dtype=float32", f"{llama_folder}?pooling=tokens"], "fusion")
    folder = tmp_path_factory.mktemp("tokens")
    exported(classifier, folder)
    return classifier, folder / "onnx"


def test_token_states_give_the_same_probabilities(
    token_states: tuple[FusionClassifier, Path],
) -> None:
    classifier, folder = token_states
    agreement = json.loads((folder / "config.json").read_text())["agreement"]
    assert agreement["texts"] == 6
    assert agreement["text_to_probabilities"]["max_probability_difference"] < 1e-4
    assert agreement["head"]["max_probability_difference"] < 1e-5
    in_float32 = with_dtype(classifier, "float32")
    found = Classifier(folder).predict_proba([*FRESH, *TEXTS])
    np.testing.assert_allclose(found, in_float32.predict_proba([*FRESH, *TEXTS]), atol=1e-4)


def with_dtype(classifier: FusionClassifier, dtype: str) -> FusionClassifier:
    config = classifier.config_
    encoders = tuple(
        one.model_copy(update={"config": one.config.model_copy(update={"dtype": dtype})}) for one in config.encoders
    )
    other = FusionClassifier(device="cpu", keep_features=False)  # the store would round to float16
    other._restore(config.model_copy(update={"encoders": encoders}), classifier.head_, classifier.card_)
    return other


def test_a_text_does_not_depend_on_its_neighbours(token_states: tuple[FusionClassifier, Path]) -> None:
    classifier = Classifier(token_states[1])
    together = classifier.predict_proba(FRESH)
    for text, expected in zip(FRESH, together, strict=True):
        np.testing.assert_allclose(classifier.predict_proba([text])[0], expected, atol=1e-5)


def test_the_folder_describes_all_and_has_no_paths(
    token_states: tuple[FusionClassifier, Path], bert_folder: Path
) -> None:
    _, folder = token_states
    assert {path.name for path in folder.iterdir()} == {
        *("head.onnx", "encoder-0.onnx", "encoder-1.onnx", "tokenizer-0", "tokenizer-1"),
        *("config.json", "known.safetensors", "predict.py", "README.md"),
    }
    written = (folder / "config.json").read_text()
    assert str(bert_folder.parent) not in written + (folder / "README.md").read_text()
    config = json.loads(written)
    assert config["id2label"] == {"0": "anger", "1": "fear", "2": "joy"}
    assert [one["pool_special_tokens"] for one in config["encoders"]] == [True, False]
    for part in [config["head"], *config["encoders"]]:
        model = onnx.load(str(folder / part["onnx"]))
        onnx.checker.check_model(model, full_check=True)
        assert [one.name for one in model.graph.input] == part["inputs"]


def test_predict_py_needs_three_packages(token_states: tuple[FusionClassifier, Path], tmp_path: Path) -> None:
    """Run by itself, where this package and torch can't be imported."""
    classifier, folder = token_states
    hidden = "import sys\nfor name in ('torch', 'transformers', 'fusion_classifier'): sys.modules[name] = None\n"
    (tmp_path / "sitecustomize.py").write_text(hidden)
    command = [sys.executable, str(folder / "predict.py"), *FRESH]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={"PYTHONPATH": str(tmp_path)}, cwd=tmp_path
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    in_float32 = with_dtype(classifier, "float32")
    assert [answer["label"] for answer in answers] == in_float32.predict(FRESH).tolist()
    expected = in_float32.predict_proba(FRESH).max(1)
    np.testing.assert_allclose([answer["score"] for answer in answers], expected, atol=1e-4)


def test_poolings_templates_positions_and_thresholds_survive(
    fit: Fit, bert_folder: Path, roberta_folder: Path, tmp_path: Path
) -> None:
    template = "I feel: {text} Really.||{text}"
    ways = "pooling=mean+max+first+last&layers=1,3"
    encoders = [
        parse_encoder(f"{bert_folder}?dtype=float32&pooling=pooler"),
        parse_encoder(f"{roberta_folder}?dtype=float32&{ways}&max_length=40&template={template}"),
    ]
    classifier = fit(encoders, "llmembed", SEVERAL)
    done = exported(classifier, tmp_path)
    assert done.config["encoders"][0]["inputs"] == ["input_ids", "attention_mask"], "no mask that nothing reads"
    texts = [*FRESH, "a b " * 40, *TEXTS[:7]]
    delivered = Classifier(tmp_path / "onnx")
    np.testing.assert_allclose(delivered.predict_proba(texts), classifier.predict_proba(texts), atol=1e-4)
    names = classifier.classes_.tolist()
    for answer, row in zip(delivered.predict(texts), classifier.predict(texts), strict=True):
        assert {one["label"] for one in answer} == {names[i] for i in np.flatnonzero(row)}
        scores = [one["score"] for one in answer]
        assert scores == sorted(scores, reverse=True)


def test_projected_states_in_8_bits_survive_the_export(fit: Fit, bert_folder: Path, tmp_path: Path) -> None:
    from fusion_classifier.encoders.loading import load_encoder
    from fusion_classifier.encoders.projection import fit_projection, save_projection

    plain = parse_encoder(f"{bert_folder}?pooling=tokens&dtype=float32")
    encoder = load_encoder(plain, torch.device("cpu"))
    fitted_on: dict[str, object] = {"fingerprint": encoder.identity.fingerprint, "layers": list(encoder.layers)}
    states = torch.randn(400, len(encoder.layers), 24, generator=torch.Generator().manual_seed(1))
    path = tmp_path / "small.safetensors"
    save_projection(fit_projection(states, "pca", 8, int8=True, fitted_on=fitted_on), path)
    classifier = fit([f"{bert_folder}?pooling=tokens&dtype=float32&projection={path}"], "fusion")
    done = exported(classifier, tmp_path)
    assert done.config["encoders"][0]["int8"]
    found = Classifier(tmp_path / "onnx").predict_proba(FRESH)
    np.testing.assert_allclose(found, classifier.predict_proba(FRESH), atol=2e-3)


def refuse(*_: object) -> None:
    """Tracing that fails."""
    raise RuntimeError("no such operator\nand a page more")


def test_an_encoder_that_cannot_be_exported_is_an_error(
    fit: Fit, bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "export_encoder", refuse)
    classifier = fit([str(bert_folder)], "linear")
    with pytest.raises(FecError, match=rf"{bert_folder.name}.*no such operator.*nothing was written.*head alone"):
        exported(classifier, tmp_path)
    assert not (tmp_path / "onnx").exists()
    done = exported(classifier, tmp_path, encoders=False)
    assert {"README.md", "config.json", "head.onnx", "predict.py"} <= set(done.files)
    with pytest.raises(ValueError, match="without encoders"):
        Classifier(tmp_path / "onnx")


def test_a_head_that_cannot_be_exported_is_an_error(fit: Fit, bert_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("skops")
    from sklearn.linear_model import LogisticRegression

    with pytest.raises(FecError, match=r"head .*can't be exported.*nothing was written"):
        exported(fit([str(bert_folder)], LogisticRegression()), tmp_path, encoders=False)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_graph_that_disagrees_is_an_error_and_nothing_is_left(
    fit: Fit, bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = export_head

    def damaged(head: Any, decision: Decision, *rest: Any) -> Any:
        return original(head, decision.model_copy(update={"temperature": 9 * decision.temperature}), *rest)

    monkeypatch.setattr(write, "export_head", damaged)
    with pytest.raises(FecError, match=r"differ by .* nothing was written"):
        exported(fit([str(bert_folder)], "linear"), tmp_path, encoders=False)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_with_something_else_is_not_replaced(fit: Fit, bert_folder: Path, tmp_path: Path) -> None:
    classifier = fit([str(bert_folder)], "linear")
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"out.*files other"):
        exported(classifier, tmp_path)
    (tmp_path / "onnx" / "thesis.txt").unlink()
    assert exported(classifier, tmp_path, encoders=False).folder == tmp_path / "onnx"
    assert "head.onnx" in exported(classifier, tmp_path, encoders=False).files


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxscript" else object())
    with pytest.raises(UsageError, match=r"onnxscript.*pip install 'llm-fusion-classifier\[onnx\]'"):
        optimize(tmp_path / "anything", tmp_path / "out", None, progress=QUIET)
