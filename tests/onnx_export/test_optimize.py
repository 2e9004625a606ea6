"""`fec optimize`: a model in its fastest form, which answers like the model and needs no torch."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from huggingface_hub.utils import filter_repo_objects  # type: ignore[attr-defined]
from onnx import numpy_helper
from typer.testing import CliRunner

from fusion_classifier import FusionClassifier, FusionHeadClassifier
from fusion_classifier.classifier.models import MODEL_FILES
from fusion_classifier.classifier.optimized import OptimizedClassifier
from fusion_classifier.classifier.text_classifier import load_classifier
from fusion_classifier.cli.main import app
from fusion_classifier.config import EnsembleConfig, Precision
from fusion_classifier.errors import FecError, UsageError
from fusion_classifier.onnx_export import optimize as module
from fusion_classifier.onnx_export.optimize import HeldOut, Measured, Optimized, optimize
from fusion_classifier.onnx_export.quantize import quantize_encoder
from fusion_classifier.support.progress import QUIET

pytestmark = pytest.mark.slow  # many commands or trainings

WORDS = {"joy": "we won", "anger": "he broke it", "fear": "it is dark"}
TEXTS = [f"{text} {i}" for i in range(20) for text in WORDS.values()]
MOODS = list(WORDS) * 20
FRESH = ["x", "is it? " * 60, "we won again", "Oh no! He broke my lamp, and it is dark now."]
TARGETS = np.array([sorted(WORDS).index(mood) for mood in MOODS])


@pytest.fixture(scope="module")
def model(bert_folder: Path, llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> FusionClassifier:
    """The default head, of one repeat, on token states of two encoders; saved in `model` of its store's folder."""
    folder = tmp_path_factory.mktemp("model")
    encoders = [f"{bert_folder}?pooling=tokens&dtype=float32", f"{llama_folder}?pooling=tokens&dtype=float32"]
    classifier = FusionClassifier(
        encoders, EnsembleConfig(repeats=1), training={"max_epochs": 3}, store=folder / "store", device="cpu"
    )
    classifier.fit(TEXTS, MOODS).save_pretrained(folder / "model")
    return classifier


@pytest.fixture(scope="module")
def simple(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> FusionClassifier:
    """A linear head on token states of one encoder, which is exported in less time; saved as `model`."""
    folder = tmp_path_factory.mktemp("simple")
    encoders = [f"{llama_folder}?pooling=tokens&dtype=float32"]
    classifier = FusionClassifier(encoders, "linear", store=folder / "store", device="cpu")
    classifier.fit(TEXTS, MOODS).save_pretrained(folder / "model")
    return classifier


def folder_of(model: FusionClassifier) -> Path:
    return Path(str(model.store)).parent / "model"


@pytest.fixture(scope="module")
def fast(model: FusionClassifier) -> Optimized:
    """`model` in the form that was chosen."""
    out = folder_of(model).with_name("fast")
    return optimize(folder_of(model), out, HeldOut(TEXTS, TARGETS), max_loss=100, check=6, progress=QUIET)


def test_every_form_is_measured_and_the_fastest_is_written(fast: Optimized) -> None:
    assert [one.precision for one in fast.measured] == ["ordinary", "float32", "int8", "int8-dynamic"]
    assert fast.config["precision"] == module._best(fast.measured[1:], 100).precision
    ordinary, float32 = fast.measured[:2]
    assert ordinary.loss == ordinary.max_probability_difference == 0
    assert float32.max_probability_difference < 1e-4
    assert float32.equal_labels == 1
    assert fast.config["agreement"]["head"]["max_probability_difference"] < 1e-5
    assert json.loads((fast.folder / "config.json").read_text("utf-8"))["precision"] == fast.config["precision"]
    assert not (fast.folder / "candidates").exists()
    assert not any(path.is_symlink() for path in fast.folder.rglob("*"))


@pytest.mark.parametrize("precision", ["float32", "int8", "int8-dynamic"])
def test_the_folder_answers_as_the_model_whatever_the_batch(
    precision: Precision, simple: FusionClassifier, tmp_path: Path
) -> None:
    optimize(
        folder_of(simple),
        tmp_path / "fast",
        HeldOut(TEXTS, TARGETS),
        max_loss=100,
        precisions=(precision,),
        check=6,
        progress=QUIET,
    )
    found = load_classifier(tmp_path / "fast")
    assert isinstance(found, OptimizedClassifier)
    together = found.predict_proba([*FRESH, *TEXTS])
    np.testing.assert_allclose(
        together, simple.predict_proba([*FRESH, *TEXTS]), atol=1e-4 if precision == "float32" else 0.1
    )
    alone = np.concatenate([found.predict_proba([text]) for text in FRESH])
    np.testing.assert_allclose(together[: len(FRESH)], alone, atol=1e-5)  # no text depends on its neighbours
    used = {node.op_type for node in onnx.load(str(tmp_path / "fast" / "encoder-0.onnx")).graph.node}
    kernel = {"float32": "MatMul", "int8": "MatMulNBits", "int8-dynamic": "MatMulInteger"}[precision]
    assert kernel in used


def test_what_loses_too_much_is_not_chosen() -> None:
    slow = Measured("float32", 1, 9.0, 0.5, 0.7, 0, 1)
    forms = [slow, Measured("int8", 1, 5.0, 0.5, 0.6, 0, 0.96), Measured("int8-dynamic", 1, 2.0, 0.5, -1, 0, 0.94)]
    assert module._best(forms, 0.6).precision == "int8"  # int8-dynamic changes too many answers
    assert module._best(forms, 0.5).precision == "float32"  # whatever it seems to lose
    with pytest.raises(FecError, match=r"max_loss.*int8 loses 0.60 points and changes 4.0%"):
        module._best(forms[1:], 0.5)


def test_from_the_hub_it_answers_alike_without_its_code(fast: Optimized, tmp_path: Path) -> None:
    """What is downloaded, by the Hub's own filter."""
    downloaded = list(filter_repo_objects(fast.files, allow_patterns=list(MODEL_FILES)))
    assert "predict.py" not in downloaded
    for name in downloaded:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(fast.folder / name, tmp_path / name)
    found, whole = (load_classifier(folder) for folder in (tmp_path, fast.folder))
    assert found.predict(FRESH, reject_unknown=0.05).tolist() == whole.predict(FRESH, reject_unknown=0.05).tolist()


def test_from_pretrained_and_unknown_texts_and_explanations(fast: Optimized, model: FusionClassifier) -> None:
    found = FusionClassifier.from_pretrained(fast.folder)
    assert found.classes_.tolist() == ["anger", "fear", "joy"]
    assert found.predict(TEXTS).tolist() == model.predict(TEXTS).tolist()
    np.testing.assert_allclose(found.unknown_score(FRESH), model.unknown_score(FRESH), rtol=0.1)
    assert found.predict(["zzz qqq"], reject_unknown=0.05).dtype == object
    words = [word.text for word in found.explain("we won again").words]
    assert words == ["we", "won", "again"]
    left, _ = found.predict_scored_logits(["z " * 400 + "we won"], "left")
    right, _ = found.predict_scored_logits(["z " * 400 + "we won"], "right")
    expected, _ = model.predict_scored_logits(["z " * 400 + "we won"], "left")
    assert not np.allclose(left, right)
    assert np.asarray(left).argmax() == np.asarray(expected).argmax()
    with pytest.raises(UsageError, match="reads texts"):
        FusionHeadClassifier.from_pretrained(fast.folder)
    with pytest.raises(UsageError, match=r"device.*cuda"):
        load_classifier(fast.folder, "cuda")
    with pytest.raises(UsageError, match="already optimized"):
        optimize(fast.folder, fast.folder.with_name("again"), None, progress=QUIET)
    for command in (["evaluate", str(fast.folder)], ["optimize", str(fast.folder), "--out", "again"]):
        refused = CliRunner().invoke(app, command)
        assert isinstance(refused.exception, UsageError)
        assert "optimized; give the model that it was made from" in str(refused.exception)


def test_prediction_and_serving_import_no_torch(fast: Optimized) -> None:
    program = f"""
import sys
from fusion_classifier.cli.main import app
from typer.testing import CliRunner
done = CliRunner().invoke(app, ["predict", {str(fast.folder)!r}, "we won"])
assert done.exit_code == 0, done.output
from pathlib import Path
from fastapi.testclient import TestClient
from fusion_classifier.classifier.text_classifier import load_classifier
from fusion_classifier.serving.settings import ServerSettings
from fusion_classifier.serving.app import create_app
from fusion_classifier.serving.model import ServedModel
served = ServedModel(load_classifier(Path({str(fast.folder)!r})), "m")
with TestClient(create_app(served, ServerSettings())) as client:
    assert client.post("/predict", json={{"inputs": "we won"}}).json()[0]["label"]
    assert client.post("/explain", json={{"inputs": "we won"}}).status_code == 200
    assert client.get("/info").json()["model_dtype"]
print(sorted({{"torch", "transformers", "sklearn"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == "[]"


def test_damaged_files_are_one_sentence(fast: Optimized, tmp_path: Path) -> None:
    import shutil

    for name, content in {"config.json": "{}", "encoder-0.onnx": "no graph", "known.safetensors": "no"}.items():
        shutil.copytree(fast.folder, tmp_path / name)
        (tmp_path / name / name).write_text(content)
        with pytest.raises(FecError, match=name):
            load_classifier(tmp_path / name)


def test_the_command_measures_on_the_file_that_is_given(simple: FusionClassifier, tmp_path: Path) -> None:
    rows = "\n".join(["text,label", *(f"{text},{mood}" for text, mood in zip(TEXTS, MOODS, strict=True))])
    (tmp_path / "moods.csv").write_text(rows + "\n", "utf-8")
    command = ["optimize", str(folder_of(simple)), "--out", str(tmp_path / "fast")]
    given = ["--task", str(tmp_path / "moods.csv"), "--max-loss", "100", "--texts", "20"]
    done = CliRunner().invoke(app, [*command, *given])
    assert done.exit_code == 0, done.output
    assert "(chosen)" in done.stdout
    assert (tmp_path / "fast" / "encoder-0.onnx").is_file()
    refused = CliRunner().invoke(app, command)
    assert isinstance(refused.exception, UsageError)
    assert "`task`" in str(refused.exception)


def test_embeddings_are_stored_in_8_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from onnx import TensorProto, helper

    from fusion_classifier.onnx_export import quantize

    monkeypatch.setattr(quantize, "LARGE", 100)
    table = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32) * np.arange(50)[:, None].astype(
        np.float32
    )
    weights = np.random.default_rng(1).normal(size=(8, 8)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "ids"], ["rows"]), helper.make_node("MatMul", ["rows", "w"], ["out"])],
        "one",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 8])],
        [numpy_helper.from_array(table, "table"), numpy_helper.from_array(weights, "w")],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), tmp_path / "a.onnx"
    )
    quantize_encoder(tmp_path / "a.onnx", tmp_path / "b.onnx", "int8")
    import onnxruntime

    ids = np.array([0, 7, 49, 1])
    found = onnxruntime.InferenceSession(tmp_path / "b.onnx").run(None, {"ids": ids})[0]
    np.testing.assert_allclose(found, table[ids] @ weights, atol=0.03 * np.abs(table[ids] @ weights).max())
    assert [one.data_type for one in onnx.load(tmp_path / "b.onnx").graph.initializer if one.dims[0] == 50] == [3, 1]


def test_minilm_in_8_bits_is_small_and_answers_alike(minilm: str, tmp_path: Path) -> None:
    classifier = FusionClassifier([minilm], "linear", store=tmp_path / "store", device="cpu")
    classifier.fit(TEXTS, MOODS).save_pretrained(tmp_path / "model")
    done = optimize(
        tmp_path / "model", tmp_path / "fast", HeldOut(TEXTS, TARGETS), precisions=("int8",), progress=QUIET
    )
    assert done.measured[1].bytes is not None
    assert done.measured[1].bytes < 30e6
    assert done.measured[1].equal_labels == 1
    found = load_classifier(tmp_path / "fast").predict_proba(TEXTS)
    np.testing.assert_allclose(found, classifier.predict_proba(TEXTS), atol=0.05)
