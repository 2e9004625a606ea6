"""`FusionClassifier`, the Python way in."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from fusion_classifier import FusionClassifier, FusionHeadClassifier
from fusion_classifier.config import EnsembleConfig, TrainingConfig
from fusion_classifier.encoders.presets import DEFAULT_ENCODERS
from fusion_classifier.errors import DataError, UsageError
from fusion_classifier.features.extract import ExtractionReport, extract_features
from fusion_classifier.fusion import linear
from fusion_classifier.fusion.folds import fold_numbers
from fusion_classifier.fusion.head import Head
from fusion_classifier.fusion.registry import head_config
from fusion_classifier.training import inference
from fusion_classifier.training.inference import predict_logits
from fusion_classifier.training.train import train

pytestmark = pytest.mark.usefixtures("few_penalties")
TEXTS = [f"{word} {i}" for i in range(12) for word in ("we won", "he broke it", "it is dark")]
LABELS = ["joy", "anger", "fear"] * 12


@pytest.fixture
def fitted(bert_folder: Path, tmp_path: Path) -> FusionClassifier:
    classifier = FusionClassifier(
        encoders=[f"{bert_folder}?dtype=float32"],
        head="linear",
        store=tmp_path / "store",
        training={"max_epochs": 25},
    )
    return classifier.fit(TEXTS, LABELS)


def test_it_learns_what_is_easy(fitted: FusionClassifier) -> None:
    assert fitted.classes_.tolist() == ["anger", "fear", "joy"]
    assert fitted.score(TEXTS, LABELS) > 0.9
    assert set(fitted.predict(["we won again"])) <= {"anger", "fear", "joy"}


def test_probabilities_have_a_column_a_class_and_sum_to_one(fitted: FusionClassifier) -> None:
    probabilities = fitted.predict_proba(TEXTS[:7])
    assert probabilities.shape == (7, 3)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    assert (fitted.predict(TEXTS[:7]) == fitted.classes_[probabilities.argmax(1)]).all()


def test_saved_and_loaded_it_predicts_the_same(fitted: FusionClassifier, tmp_path: Path) -> None:
    fitted.save_pretrained(tmp_path / "model")
    assert {path.name for path in (tmp_path / "model").iterdir()} == {
        "README.md",
        "config.json",
        "known.safetensors",
        "model.safetensors",
    }
    loaded = FusionClassifier.from_pretrained(tmp_path / "model")
    kept = fitted.predict_proba(TEXTS[:9])  # from features that the store has rounded to float16
    np.testing.assert_allclose(loaded.predict_proba(TEXTS[:9]), kept, atol=1e-3)
    fitted.set_params(keep_features=False)
    np.testing.assert_array_equal(loaded.predict_proba(TEXTS[:9]), fitted.predict_proba(TEXTS[:9]))
    assert loaded.classes_.tolist() == fitted.classes_.tolist()


@pytest.mark.parametrize("values", [(5, 1, 3), (0.25, 1.0, -3.5), (2.0, 1.0, 3.0), (True, False, True)])
def test_labels_keep_their_type(small: FusionClassifier, tmp_path: Path, values: tuple[float, ...]) -> None:
    labels = np.array([dict(zip(("joy", "anger", "fear"), values, strict=True))[label] for label in LABELS])
    fitted = clone(small).fit(TEXTS, labels, X_valid=TEXTS, y_valid=labels.tolist())
    fitted.save_pretrained(tmp_path / "model")
    loaded = FusionClassifier.from_pretrained(tmp_path / "model")
    for classifier in (fitted, loaded):
        assert classifier.classes_.tolist() == sorted(set(values))
        assert classifier.classes_.dtype == classifier.predict(TEXTS[:2]).dtype == labels.dtype
        assert 0 <= classifier.score(TEXTS, labels) <= 1
    assert fitted.explain(TEXTS[0], labels[0]).label == str(labels[0])


def test_columns_of_indicators_are_named(small: FusionClassifier) -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({name: [int(label == name) for label in LABELS] for name in ("joy", "anger", "fear")})
    fitted = clone(small).fit(TEXTS, table)
    assert fitted.classes_.tolist() == ["joy", "anger", "fear"]
    assert fitted.predict(TEXTS).shape == (len(TEXTS), 3)
    assert 0 <= fitted.score(TEXTS, table) <= 1


def test_the_same_seed_gives_the_same_bits(bert_folder: Path, tmp_path: Path) -> None:
    runs = [
        FusionClassifier([str(bert_folder)], head="llmembed", training={"max_epochs": 2}, store=tmp_path / "store")
        .fit(TEXTS, LABELS)
        .predict_proba(TEXTS)
        for _ in range(2)
    ]
    np.testing.assert_array_equal(runs[0], runs[1])


def test_parameters_follow_the_estimator_contract(bert_folder: Path) -> None:
    classifier = FusionClassifier([str(bert_folder)], head="llmembed", seed=3)
    copy = clone(classifier)
    assert copy.get_params() == classifier.get_params()
    with pytest.raises(NotFittedError):
        copy.predict(["a text"])
    with pytest.raises(NotFittedError):
        copy.save_pretrained("nowhere")


def test_validation_texts_may_be_given(bert_folder: Path, tmp_path: Path) -> None:
    classifier = FusionClassifier([str(bert_folder)], store=tmp_path / "store")
    classifier.fit(TEXTS[3:], LABELS[3:], X_valid=TEXTS[:3], y_valid=LABELS[:3])
    assert classifier.classes_.tolist() == ["anger", "fear", "joy"]
    with pytest.raises(DataError, match="'envy'"):
        classifier.fit(TEXTS[3:], LABELS[3:], X_valid=["oh"], y_valid=["envy"])


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        ("one string", ["a"], "list of texts"),
        (["", "b"], ["x", "y"], r"X\[0\]` is empty"),
        (["a", None], ["x", "y"], r"X\[1\]` is missing"),
        (["a", "b"], ["x"], "1 label for 2 rows"),
        (["a"] * 12, ["x"] * 12, "two different labels"),
        (["a", "b"], ["x", "y"], "too few"),
    ],
)
def test_what_can_not_be_used_is_an_error_that_says_why(
    bert_folder: Path, texts: list[str], labels: list[str], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        FusionClassifier([str(bert_folder)]).fit(texts, labels)


@pytest.fixture(scope="module")
def small(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> FusionClassifier:
    """Not fitted; all tests share its store."""
    return FusionClassifier(
        [f"{bert_folder}?dtype=float32"],
        head="linear",
        store=tmp_path_factory.mktemp("store"),
        training={"max_epochs": 3},
    )


def test_batches_of_the_head_give_each_text_its_own_answer(
    bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [" ".join(["we won"] * (1 + i % 5) + [str(i)]) for i in range(30)]  # of several lengths, out of order
    classifier = FusionClassifier(
        [f"{bert_folder}?dtype=float32"], store=tmp_path / "store", training={"max_epochs": 2}, keep_features=False
    ).fit(TEXTS, LABELS)
    at_once = classifier.predict_proba(texts)
    sizes = []

    def counted(head: Head, features: Any, count: int, device: torch.device) -> torch.Tensor:
        sizes.append(count)
        return predict_logits(head, features, count, device)

    monkeypatch.setattr("fusion_classifier.classifier.prediction.predict_logits", counted)
    monkeypatch.setitem(inference.INFERENCE_TOKENS, "cpu", 40)
    in_batches = classifier.predict_proba(texts)
    assert sum(sizes) == len(texts)
    assert len(sizes) > 4
    np.testing.assert_allclose(in_batches, at_once, atol=1e-6)


def test_a_grid_search_encodes_each_text_once(
    small: FusionClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = []

    def counted(*arguments: Any, **more: Any) -> ExtractionReport:
        report = extract_features(*arguments, **more)
        encoded.append(report.encoded)
        return report

    monkeypatch.setattr("fusion_classifier.classifier.estimator.extract_features", counted)
    monkeypatch.setattr("fusion_classifier.features.extract.extract_features", counted)
    monkeypatch.setattr("fusion_classifier.classifier.prediction.encode", None)  # the way past the store
    grid = {"head": ["linear", "llmembed"], "training": [{"max_epochs": 1, "learning_rate": r} for r in (1e-3, 1e-2)]}
    search = GridSearchCV(clone(small).set_params(store=tmp_path / "store"), grid, cv=2, error_score="raise")
    search.fit(TEXTS, LABELS)
    assert len(encoded) > 2 * 4
    assert sum(encoded) == len(set(TEXTS)) + 3  # the labels' names
    assert search.predict(TEXTS[:2]).shape == (2,)


@pytest.mark.slow
def test_it_works_in_a_pipeline_and_in_several_processes(small: FusionClassifier) -> None:
    pipeline = Pipeline([("lower", FunctionTransformer(np.char.lower)), ("clf", clone(small))])
    scores = cross_val_score(pipeline, TEXTS, LABELS, cv=2, n_jobs=2, error_score="raise")
    assert scores.shape == (2,)
    assert "FusionClassifier" in pipeline.fit(TEXTS, LABELS)._repr_html_()
    assert pipeline.score(TEXTS, LABELS) > 0.3


@pytest.mark.parametrize(("head", "held"), [("linear", 0), ("ensemble", 0), ("llmembed", 4)])
def test_rows_are_held_out_only_for_heads_with_epochs(
    small: FusionClassifier, monkeypatch: pytest.MonkeyPatch, head: str, held: int
) -> None:
    seen = []

    def looked_at(head: Any, config: Any, train_data: Any, valid_data: Any, *rest: Any, **options: Any) -> Any:
        seen.append((train_data.n_texts, train_data.n_label_names, 0 if valid_data is None else len(valid_data)))
        return train(head, config, train_data, valid_data, *rest, **options)

    monkeypatch.setattr("fusion_classifier.classifier.pipeline.train", looked_at)
    clone(small).set_params(head=head).fit(TEXTS, LABELS)
    clone(small).set_params(head=head).fit(TEXTS, [len(label) for label in LABELS])  # 3, 4, 5: names without a word
    assert seen == [(36 - held, 0 if held else 3, held), (36 - held, 0, held)]


def test_copies_of_a_text_are_in_one_part_and_one_fold(
    small: FusionClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copies that differ in case and punctuation, whose features differ, too."""
    folds: list[np.ndarray] = []

    def looked_at(*given: Any) -> np.ndarray:
        folds.append(fold_numbers(*given))
        return folds[-1]

    monkeypatch.setattr(linear, "fold_numbers", looked_at)
    texts = [*TEXTS, *(f"{text.upper()}!" for text in TEXTS)]
    clone(small).fit(texts, LABELS * 2)
    np.testing.assert_array_equal(folds[0][:36], folds[0][36:72])
    _, held_out, _ = (
        clone(small).set_params(head="llmembed")._rows(head_config("llmembed"), texts, LABELS * 2, None, None, None)
    )
    assert held_out is not None
    kept = {text.strip("!").lower() for text in held_out.texts}
    assert len(held_out.texts) == 2 * len(kept) > 0


def test_beyond_the_limit_rows_are_held_out(small: FusionClassifier, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in (35, 36):  # the three names, which make 39 of 36 texts, do not count
        monkeypatch.setattr(EnsembleConfig, "cross_validated_rows", limit)
        assert clone(small).fit(TEXTS, LABELS).score(TEXTS, LABELS) > 0.9


def test_other_calibration_may_be_put_on_it(small: FusionClassifier) -> None:
    calibrated = CalibratedClassifierCV(clone(small), cv=2).fit(TEXTS, LABELS)
    np.testing.assert_allclose(calibrated.predict_proba(TEXTS[:4]).sum(1), 1, atol=1e-6)


def test_columns_of_tables_are_texts_and_labels(small: FusionClassifier) -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"text": TEXTS, "label": LABELS}, index=np.arange(len(TEXTS))[::-1])
    as_lists = clone(small).fit(TEXTS, LABELS).predict_proba(TEXTS)
    for texts, labels in [
        (table["text"], table["label"]),
        (table["text"].astype(object), table["label"].astype("category")),
        (np.array(TEXTS, dtype=object), np.array(LABELS, dtype=object)),
        (np.array(TEXTS), np.array(LABELS)),
        (pa.chunked_array([TEXTS]), pa.chunked_array([LABELS])),
    ]:
        fitted = clone(small).fit(texts, labels)
        np.testing.assert_array_equal(fitted.predict_proba(texts), as_lists)
        assert fitted.score(texts, labels) == pytest.approx((fitted.predict(TEXTS) == np.array(LABELS)).mean())
    np.testing.assert_array_equal(fitted.predict(table[["text"]]), fitted.predict(TEXTS))
    with pytest.raises(DataError, match="one column of texts"):
        fitted.predict(table)
    with pytest.raises(DataError, match=r"X\[1\]` is missing"):
        fitted.predict(pandas.Series(["a", None]))


def test_a_polars_column_will_do(small: FusionClassifier) -> None:
    polars = pytest.importorskip("polars")
    fitted = clone(small).fit(polars.Series(TEXTS), polars.Series(LABELS))
    assert fitted.predict(polars.Series(TEXTS)).shape == (len(TEXTS),)


def test_fit_leaves_the_parameters_alone_and_starts_anew(small: FusionClassifier) -> None:
    classifier = clone(small)
    before = classifier.get_params(deep=True)
    first = classifier.fit(TEXTS, LABELS).predict_proba(TEXTS)
    classifier.fit(TEXTS[:24], [label.upper() for label in LABELS[:24]])
    assert classifier.classes_.tolist() == ["ANGER", "FEAR", "JOY"]
    np.testing.assert_array_equal(classifier.fit(TEXTS, LABELS).predict_proba(TEXTS), first)
    assert classifier.get_params(deep=True) == before
    assert not hasattr(clone(classifier), "classes_")
    restored = pickle.loads(pickle.dumps(classifier))  # noqa: S301
    assert restored._loaded is None
    np.testing.assert_array_equal(restored.predict_proba(TEXTS), first)


def test_several_labels_a_text_have_a_score(small: FusionClassifier) -> None:
    indicator = np.array([[i % 2, i % 3 == 0, i % 3 != 0] for i in range(len(TEXTS))], dtype=np.int64)
    fitted = clone(small).fit(TEXTS, indicator)
    answers = fitted.predict(TEXTS)
    assert fitted.score(TEXTS, indicator) == (answers == indicator).all(1).mean()
    names = [[name for name, one in zip("abc", row, strict=True) if one] for row in indicator]
    by_name = clone(small).fit(TEXTS, names)
    np.testing.assert_array_equal(by_name.predict(TEXTS), answers)
    assert by_name.score(TEXTS, names) == fitted.score(TEXTS, indicator)
    assert cross_val_score(clone(small), TEXTS, indicator, scoring="f1_micro", error_score="raise", cv=2).shape == (
        2,
    )


def test_weights_of_rows_and_of_classes(small: FusionClassifier) -> None:
    plain = clone(small).fit(TEXTS, LABELS).predict_proba(TEXTS)
    alike = clone(small).fit(TEXTS, LABELS, sample_weight=[3.0] * len(TEXTS)).predict_proba(TEXTS)
    np.testing.assert_array_equal(alike, plain)
    weights = [20.0 if label == "joy" else 1.0 for label in LABELS]
    of_rows = clone(small).fit(TEXTS, LABELS, sample_weight=weights).predict_proba(TEXTS)
    of_classes = clone(small).set_params(class_weight={"joy": 20.0}).fit(TEXTS, LABELS).predict_proba(TEXTS)
    np.testing.assert_array_equal(of_rows, of_classes)
    assert of_rows[:, 2].mean() > plain[:, 2].mean()
    texts, labels = [*TEXTS[:12], *TEXTS[12::3]], [*LABELS[:12], *LABELS[12::3]]  # joy alone is frequent
    balanced = clone(small).set_params(class_weight="balanced").fit(texts, labels).predict_proba(texts)
    assert balanced[:, 2].mean() < clone(small).fit(texts, labels).predict_proba(texts)[:, 2].mean()


def test_rows_without_weight_are_not_trained_on(small: FusionClassifier) -> None:
    more = [*TEXTS, *(f"they won {i}" for i in range(12))]
    labels, weights = [*LABELS, *["fear"] * 12], [1.0] * len(TEXTS) + [0.0] * 12
    weighted = clone(small).fit(more, labels, sample_weight=weights).predict_proba(TEXTS)
    np.testing.assert_array_equal(weighted, clone(small).fit(TEXTS, LABELS).predict_proba(TEXTS))


def test_fields_of_training_are_parameters(small: FusionClassifier) -> None:
    parameters = small.get_params()
    assert parameters["training__max_epochs"] == 3
    assert parameters["training__learning_rate"] is None
    names = {name.removeprefix("training__") for name in parameters if name.startswith("training__")}
    assert names == set(TrainingConfig.model_fields)
    grid = {"training__learning_rate": [1e-5, 1e-2]}
    stepped = clone(small).set_params(head="llmembed")
    search = GridSearchCV(stepped, grid, cv=2, scoring="neg_log_loss", error_score="raise").fit(TEXTS, LABELS)
    assert search.best_estimator_.training == {
        "max_epochs": 3,
        "learning_rate": search.best_params_["training__learning_rate"],
    }
    assert len(set(search.cv_results_["mean_test_score"])) == 2
    with pytest.raises(ValueError, match="learning_rat'"):
        clone(small).set_params(training__learning_rat=1)
    with pytest.raises(UsageError, match="learning_rate"):
        clone(small).set_params(training__learning_rate=-1).fit(TEXTS, LABELS)


def test_training_may_be_a_whole_configuration(small: FusionClassifier) -> None:
    config = TrainingConfig(learning_rate=1e-2, batch_size=8, max_epochs=2, patience=5)
    classifier = clone(small).set_params(head="llmembed", training=config)
    assert classifier.get_params()["training__batch_size"] == 8
    assert len(classifier.fit(TEXTS, LABELS).history_) == 2
    classifier.set_params(training__max_epochs=1)
    assert isinstance(classifier.training, TrainingConfig)
    assert len(classifier.fit(TEXTS, LABELS).history_) == 1
    with pytest.raises(UsageError, match="training"):
        clone(small).set_params(training=3).fit(TEXTS, LABELS)


def test_set_params_undoes_what_it_set(small: FusionClassifier) -> None:
    classifier = clone(small)
    before = classifier.get_params()
    classifier.set_params(training__learning_rate=0.5)
    assert classifier.set_params(training__learning_rate=None).get_params() == before
    assert classifier.set_params(**before).get_params() == before


@pytest.mark.parametrize("head", ["linear", "llmembed", "fusion", "ensemble"])
def test_it_is_a_transformer(small: FusionClassifier, bert_folder: Path, head: str) -> None:
    spec = f"{bert_folder}?dtype=float32" + ("&pooling=tokens" if head in ("fusion", "ensemble") else "")
    classifier = clone(small).set_params(encoders=spec, head=head, training={"max_epochs": 2})
    features = classifier.fit_transform(TEXTS, LABELS)
    assert features.dtype == np.float32
    assert features.shape == (len(TEXTS), len(classifier.get_feature_names_out()))
    np.testing.assert_allclose(classifier.transform(TEXTS[5:9]), features[5:9], atol=1e-5)
    with pytest.raises(DataError, match="at least one"):
        classifier.transform([])


def test_its_features_go_into_a_pipeline(small: FusionClassifier) -> None:
    pipeline = make_pipeline(clone(small), StandardScaler(), LogisticRegression())
    assert pipeline.fit(TEXTS, LABELS).score(TEXTS, LABELS) > 0.9
    pandas = pytest.importorskip("pandas")
    table = clone(small).set_output(transform="pandas").fit(TEXTS, LABELS).transform(TEXTS)
    assert isinstance(table, pandas.DataFrame)


def test_the_default_encoders_are_those_of_the_command_line() -> None:
    assert FusionClassifier().encoders == DEFAULT_ENCODERS


def test_a_model_of_features_is_not_one_of_texts(tmp_path: Path) -> None:
    X = np.random.default_rng(0).normal(size=(30, 4))
    FusionHeadClassifier().fit(X, ["a", "b"] * 15).save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="FusionHeadClassifier"):
        FusionClassifier.from_pretrained(tmp_path)


def test_labels_of_one_to_three_rows_can_be_fitted(small: FusionClassifier) -> None:
    texts = [f"we won {i}" for i in range(100)] + [f"he broke it {i}" for i in range(94)]
    texts += [f"{name} {i}" for name, count in (("odd", 1), ("rare", 2), ("scarce", 3)) for i in range(count)]
    labels = ["good"] * 100 + ["bad"] * 94 + ["odd"] + ["rare"] * 2 + ["scarce"] * 3
    fitted = clone(small).set_params(training__metric="macro_f1").fit(texts, labels)
    assert fitted.classes_.tolist() == ["bad", "good", "odd", "rare", "scarce"]
    assert fitted.score(texts, labels) > 0.5
