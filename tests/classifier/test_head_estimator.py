"""`FusionHeadClassifier`: scikit-learn's contract, and what it adds to it."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.base import BaseEstimator
from sklearn.calibration import CalibratedClassifierCV
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from fusion_classifier import FusionHeadClassifier
from fusion_classifier.classifier.prediction import TextPredictor
from fusion_classifier.config import HEAD_CONFIGS, EnsembleConfig, TrainingChanges
from fusion_classifier.errors import DataError, UsageError
from fusion_classifier.training.train import train

pytestmark = pytest.mark.usefixtures("few_penalties")
FEW: TrainingChanges = {"max_epochs": 20, "learning_rate": 3e-3}


@parametrize_with_checks([FusionHeadClassifier()])  # type: ignore[untyped-decorator]
def test_it_is_a_scikit_learn_estimator(estimator: BaseEstimator, check: Callable[[BaseEstimator], None]) -> None:
    check(estimator)


@pytest.fixture(scope="module")
def rows() -> tuple[np.ndarray, np.ndarray]:
    """Three labels, which only the first block (2, 4) of 14 columns tells apart."""
    generator = np.random.default_rng(0)
    y = np.array(["anger", "fear", "joy"])[np.arange(90) % 3]
    X = generator.standard_normal((90, 14))
    X[:, :8] += 2 * generator.standard_normal((3, 8))[np.arange(90) % 3]
    return X, y


@pytest.mark.parametrize("head", HEAD_CONFIGS)
@pytest.mark.parametrize("blocks", [None, [8, 6], {"llm": (2, 4), "bert": 6}])
def test_every_head_learns_from_every_kind_of_blocks(
    rows: tuple[np.ndarray, np.ndarray], head: str, blocks: Any
) -> None:
    X, y = rows
    fitted = FusionHeadClassifier(head, blocks=blocks, training=FEW).fit(X, y)
    assert fitted.score(X, y) > 0.8
    assert list(fitted.head_.shapes) == (list(blocks) if isinstance(blocks, dict) else list(fitted.config_.blocks))
    probabilities = fitted.predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    assert (fitted.classes_[probabilities.argmax(1)] == fitted.predict(X)).all()
    restored = pickle.loads(pickle.dumps(fitted))  # noqa: S301
    np.testing.assert_array_equal(restored.predict_proba(X), probabilities)


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([8, 5], "13 columns in total, but `X` has 14"),
        ([(2, 4, 1), 6], "block0"),
        ({"a": 14.0}, "a has"),
        ([-1, 15], "block0"),
    ],
)
def test_blocks_that_can_not_be_are_named(rows: tuple[np.ndarray, np.ndarray], blocks: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        FusionHeadClassifier(blocks=blocks).fit(*rows)


def test_no_row_is_trained_and_validated_on(
    rows: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = rows
    seen = []

    def looked_at(head: Any, config: Any, train_data: Any, valid_data: Any, *rest: Any, **options: Any) -> Any:
        seen.extend([set(map(bytes, data.features["block0"].values)) for data in (train_data, valid_data)])
        return train(head, config, train_data, valid_data, *rest, **options)

    monkeypatch.setattr("fusion_classifier.classifier.pipeline.train", looked_at)
    relabelled = np.where(np.arange(90) < 30, "joy", y)  # some rows a second time, with another label
    FusionHeadClassifier("fusion", training=FEW).fit(np.vstack([X, X]), np.hstack([y, relabelled]))
    assert not seen[0] & seen[1]
    assert len(seen[0]) + len(seen[1]) == 90
    assert len(seen[1]) == 9


def test_validation_rows_may_be_given(rows: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = rows
    fitted = FusionHeadClassifier(training=FEW).fit(X[9:], y[9:], X_valid=X[:9], y_valid=y[:9])
    assert fitted.history_[0].valid_accuracy * 9 == pytest.approx(round(fitted.history_[0].valid_accuracy * 9))
    with pytest.raises(DataError, match="'envy'"):
        FusionHeadClassifier().fit(X, y, X_valid=X[:1], y_valid=["envy"])
    with pytest.raises(DataError, match="y_valid"):
        FusionHeadClassifier().fit(X, y, X_valid=X[:1])


def test_several_labels_a_row(rows: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = rows
    indicator = np.stack([y == "joy", y != "fear"], axis=1).astype(int)
    fitted = FusionHeadClassifier(training=FEW).fit(X, indicator, sample_weight=np.arange(90) % 4)
    assert (fitted.predict(X) == indicator).all(1).mean() > 0.8
    assert fitted.predict_proba(X).shape == (90, 2)


@pytest.mark.parametrize(
    ("weights", "message"),
    [([-1.0] + [1.0] * 89, r"sample_weight\[0\]"), ([0.0] * 90, "zero"), ([1.0] * 5, r"\(5,\).*90 rows")],
)
def test_weights_that_can_not_be_are_named(
    rows: tuple[np.ndarray, np.ndarray], weights: list[float], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        FusionHeadClassifier().fit(*rows, sample_weight=weights)


def test_sparse_features_are_refused_in_scikit_learns_words(rows: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.raises(TypeError, match="Sparse data was passed"):
        FusionHeadClassifier().fit(csr_matrix(rows[0]), rows[1])


def test_too_few_rows_are_an_error_with_the_way_out() -> None:
    with pytest.raises(DataError, match="X_valid"):
        FusionHeadClassifier("fusion").fit(np.eye(2), ["a", "b"])


@pytest.mark.parametrize(("head", "beyond"), [("linear", (90, None)), ("ensemble", (81, 9))])
def test_heads_that_cross_validate_hold_no_row_out(
    rows: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch, head: str, beyond: tuple[int, int | None]
) -> None:
    seen = []

    def looked_at(head: Any, config: Any, train_data: Any, valid_data: Any, *rest: Any, **options: Any) -> Any:
        seen.append((len(train_data), None if valid_data is None else len(valid_data)))
        return train(head, config, train_data, valid_data, *rest, **options)

    monkeypatch.setattr("fusion_classifier.classifier.pipeline.train", looked_at)
    FusionHeadClassifier(head, training=FEW).fit(*rows)
    monkeypatch.setattr(EnsembleConfig, "cross_validated_rows", 89)
    FusionHeadClassifier(head, training=FEW).fit(*rows)
    assert seen == [(90, None), beyond]


@pytest.mark.parametrize("head", ["linear", "ensemble"])
def test_equal_rows_of_two_labels_are_as_likely_as_not(head: str) -> None:
    """Whatever is left out, nothing else is there to train on."""
    fitted = FusionHeadClassifier(head, training=FEW).fit(np.ones((40, 3)), ["a", "b"] * 20)
    np.testing.assert_allclose(fitted.predict_proba(np.ones((1, 3))), 0.5, atol=0.1)


def test_it_works_in_scikit_learns_tools(rows: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = rows
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(X, columns=[f"x{i}" for i in range(14)])
    pipeline = make_pipeline(StandardScaler().set_output(transform="pandas"), FusionHeadClassifier(training=FEW))
    grid = {"fusionheadclassifier__head": ["linear", "fusion"], "fusionheadclassifier__blocks": [None, (8, 6)]}
    search = GridSearchCV(pipeline, grid, cv=2, scoring="neg_log_loss", error_score="raise").fit(table, y)
    assert search.best_estimator_[-1].feature_names_in_.tolist() == list(table.columns)
    assert cross_val_score(FusionHeadClassifier(training=FEW), X, y, cv=3, error_score="raise").min() > 0.7
    calibrated = CalibratedClassifierCV(FusionHeadClassifier(training=FEW), cv=2).fit(X, y, sample_weight=np.ones(90))
    assert calibrated.score(X, y) > 0.8
    assert "FusionHeadClassifier" in pipeline._repr_html_()


@pytest.mark.parametrize("blocks", [None, {"llm": (2, 4), "bert": 6}])
def test_saved_and_loaded_it_predicts_the_same(
    rows: tuple[np.ndarray, np.ndarray], tmp_path: Path, blocks: Any
) -> None:
    X, y = rows
    fitted = FusionHeadClassifier("fusion", blocks=blocks, training=FEW).fit(X, y)
    fitted.save_pretrained(tmp_path / "model")
    assert {path.name for path in (tmp_path / "model").iterdir()} == {
        "README.md",
        "config.json",
        "known.safetensors",
        "model.safetensors",
    }
    loaded = FusionHeadClassifier.from_pretrained(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict_proba(X), fitted.predict_proba(X))
    assert loaded.predict(X).tolist() == fitted.predict(X).tolist()
    assert loaded.n_features_in_ == 14
    with pytest.raises(ValueError, match="14 features"):
        loaded.predict(X[:, :5])
    card = (tmp_path / "model" / "README.md").read_text("utf-8")
    assert "FusionHeadClassifier.from_pretrained" in card
    assert blocks is None or "llm (2 × 4), bert (6)" in card
    assert "fec predict" not in card
    with pytest.raises(UsageError, match="FusionHeadClassifier"):
        TextPredictor.from_pretrained(tmp_path / "model")


def test_several_labels_and_names_of_columns_are_saved(rows: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    X = pandas.DataFrame(rows[0], columns=[f"x{i}" for i in range(14)])
    y = pandas.DataFrame({"joyful": (rows[1] == "joy").astype(int), "calm": (rows[1] != "fear").astype(int)})
    fitted = FusionHeadClassifier(training=FEW).fit(X, y)
    assert fitted.classes_.tolist() == ["joyful", "calm"]
    fitted.save_pretrained(tmp_path / "model")
    loaded = FusionHeadClassifier.from_pretrained(tmp_path / "model")
    assert loaded.feature_names_in_.tolist() == list(X.columns)
    assert loaded.classes_.tolist() == ["joyful", "calm"]
    np.testing.assert_array_equal(loaded.predict(X), fitted.predict(X))
    with pytest.raises(ValueError, match="feature names"):
        loaded.predict(X[X.columns[::-1]])


def test_weights_of_classes(rows: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = rows
    weights = np.where(y == "joy", 9.0, 1.0)
    of_rows = FusionHeadClassifier(training=FEW).fit(X, y, sample_weight=weights)
    of_classes = FusionHeadClassifier(training=FEW, class_weight={"joy": 9.0}).fit(X, y)
    np.testing.assert_array_equal(of_rows.predict_proba(X), of_classes.predict_proba(X))


def test_what_is_missing_is_named(rows: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = rows
    with pytest.raises(DataError, match=r"y\[17\]"):
        FusionHeadClassifier().fit(X, [*y[:17], None, *y[18:]])
    with pytest.raises(DataError, match="continuous"):
        FusionHeadClassifier().fit(X, np.arange(90) / 7)
    for whole in (np.arange(90) % 3 * 1.0, np.arange(90) % 2 == 0):
        assert FusionHeadClassifier(training=FEW).fit(X, whole).classes_.dtype == whole.dtype


def test_fields_of_training_are_parameters() -> None:
    classifier = FusionHeadClassifier(training={"max_epochs": 2}).set_params(training__learning_rate=0.1)
    assert classifier.training == {"max_epochs": 2, "learning_rate": 0.1}
    assert classifier.get_params()["training__learning_rate"] == 0.1


def test_a_model_of_texts_is_not_one_of_features(saved_model: Path) -> None:
    with pytest.raises(UsageError, match=r"FusionClassifier\.from_pretrained"):
        FusionHeadClassifier.from_pretrained(saved_model)
