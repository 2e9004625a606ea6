"""Scikit-learn classifiers as heads: their own probabilities, calibrated, saved without pickle."""

import re
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler, normalize
from sklearn.svm import LinearSVC

from fusion_classifier.config import SklearnConfig, TrainingConfig
from fusion_classifier.errors import FecError, UsageError
from fusion_classifier.features.arrays import PooledFeatures, TokenFeatures
from fusion_classifier.fusion.registry import head_config
from fusion_classifier.fusion.saved import load_head, save_head
from fusion_classifier.support.progress import QUIET
from fusion_classifier.training.data import LabelledFeatures
from fusion_classifier.training.defaults import recipe
from fusion_classifier.training.inference import predict_each, predict_logits
from fusion_classifier.training.result import TrainingResult
from fusion_classifier.training.train import train

CPU = torch.device("cpu")
PLAIN = recipe("default", "scikit-learn", calibrate=False)
SETTINGS = recipe("default", "scikit-learn")
ONE_LABEL = [
    LogisticRegression(C=10),
    RandomForestClassifier(20),
    HistGradientBoostingClassifier(max_iter=10),
    KNeighborsClassifier(),
    make_pipeline(StandardScaler(), GaussianNB()),
]
SEVERAL = [
    OneVsRestClassifier(LogisticRegression()),
    MultiOutputClassifier(LogisticRegression()),
    RandomForestClassifier(20),
    MLPClassifier((8,), max_iter=300, tol=0.01),
]


def data(rows: int, seed: int, *, several: bool = False, ragged: bool = False) -> LabelledFeatures:
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(9).standard_normal((4, 2, 5))
    labels = generator.integers(0, 4, rows)
    lengths = generator.integers(1, 4, rows)
    values = np.repeat(centres[labels], lengths, axis=0) if ragged else centres[labels]
    values = (values + generator.standard_normal(values.shape)).astype(np.float16)
    layered = TokenFeatures(values, np.append(0, lengths.cumsum())) if ragged else PooledFeatures(values)
    single = PooledFeatures(generator.standard_normal((rows, 3)).astype(np.float16))
    targets = (np.eye(4)[labels] + (generator.random((rows, 4)) < 0.2) > 0).astype(np.int64) if several else labels
    return LabelledFeatures({"layered": layered, "single": single}, targets)


def fit(head: Any, *, config: TrainingConfig = SETTINGS, seed: int = 0, **kind: bool) -> TrainingResult:
    return train(head, config, data(200, 0, **kind), data(80, 1, **kind), 4, seed, CPU, QUIET)


def columns(of: LabelledFeatures) -> np.ndarray:
    """What a head should read, by another way."""
    parts = []
    for features in of.features.values():
        assert isinstance(features, PooledFeatures | TokenFeatures)
        arrays = np.stack([a.astype(np.float32).mean(0) if features.shape.ragged else a for a in features.arrays])
        layers = arrays.astype(np.float32).reshape(len(of), -1, features.shape.width)
        parts += [normalize(layers[:, layer]) for layer in range(layers.shape[1])]
    return np.concatenate(parts, axis=1)


def probabilities(trained: TrainingResult, of: LabelledFeatures) -> np.ndarray:
    return trained.decision.probabilities(predict_logits(trained.head, of.features, len(of), CPU))


@pytest.mark.parametrize("ragged", [False, True])
def test_it_reads_unit_vectors_side_by_side(*, ragged: bool) -> None:
    trained, valid = fit(LogisticRegression(), ragged=ragged), data(80, 1, ragged=ragged)
    found = predict_each(trained.head, trained.head.transform, valid.features, 80, CPU).numpy()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, columns(valid), atol=1e-4)


@pytest.mark.parametrize("classifier", ONE_LABEL, ids=lambda c: type(c).__name__)
def test_probabilities_are_the_classifiers_own(classifier: Any) -> None:
    trained, train_data, valid = fit(classifier, config=PLAIN), data(200, 0), data(80, 1)
    seeded = {n: 0 for n, v in classifier.get_params().items() if n.endswith("random_state") and v is None}
    alone = classifier.set_params(**seeded).fit(columns(train_data), train_data.labels)
    np.testing.assert_allclose(probabilities(trained, valid), alone.predict_proba(columns(valid)), atol=1e-3)
    classifier.set_params(**dict.fromkeys(seeded))


def test_it_is_fitted_once_and_calibrated() -> None:
    trained = fit(RandomForestClassifier(10))
    assert (trained.best_epoch, len(trained.history)) == (1, 1)
    assert trained.best.train_loss < trained.best.valid_loss
    assert trained.decision.temperature != 1, "a forest is sure of too much"
    plain = fit(RandomForestClassifier(10), config=PLAIN)
    of, rows = data(80, 1), np.arange(80)
    losses = [-np.log(probabilities(one, of)[rows, of.labels]).mean() for one in (trained, plain)]
    assert losses[0] < losses[1]


def test_the_seed_decides_and_the_given_one_stays_as_it_is() -> None:
    given = make_pipeline(StandardScaler(), RandomForestClassifier(5))
    np.random.seed(3)  # the state that must stay
    before = np.random.get_state()[1].copy()  # type: ignore[index]
    first, again, other = (probabilities(fit(given, seed=seed), data(80, 1)) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not hasattr(given[-1], "classes_")
    assert given[-1].random_state is None
    assert np.array_equal(before, np.random.get_state()[1])  # type: ignore[index]


def test_a_label_that_training_lacks_has_no_probability() -> None:
    train_data, valid = data(200, 0), data(80, 1)
    three = LabelledFeatures(train_data.features, np.where(train_data.labels == 1, 2, train_data.labels))
    trained = train(LogisticRegression(), PLAIN, three, valid, 4, 0, CPU, QUIET)
    assert probabilities(trained, valid)[:, 1].max() < 1e-5


@pytest.mark.parametrize("classifier", SEVERAL, ids=lambda c: type(c).__name__)
def test_several_labels_per_text(classifier: Any, tmp_path: Path) -> None:
    trained, valid = fit(classifier, config=PLAIN, several=True), data(80, 1, several=True)
    found = probabilities(trained, valid)
    assert found.shape == (80, 4)
    assert trained.decision.multilabel
    assert trained.best.valid_weighted_f1 > 0.6
    if isinstance(classifier, OneVsRestClassifier):
        train_data = data(200, 0, several=True)
        alone = classifier.fit(columns(train_data), train_data.labels).predict_proba(columns(valid))
        np.testing.assert_allclose(found, alone, atol=1e-4)
    save_head(trained.head, tmp_path)
    again = load_head(trained.head.config, trained.head.shapes, 4, tmp_path)
    assert torch.equal(
        predict_logits(again, valid.features, 80, CPU), predict_logits(trained.head, valid.features, 80, CPU)
    )


def test_a_label_that_no_or_every_text_has() -> None:
    train_data = data(200, 0, several=True)
    train_data.labels[:, 0], train_data.labels[:, 1] = 0, 1
    trained = train(RandomForestClassifier(5), PLAIN, train_data, data(80, 1, several=True), 4, 0, CPU, QUIET)
    found = probabilities(trained, data(80, 1))
    assert found[:, 0].max() < 1e-5
    assert found[:, 1].min() > 1 - 1e-5


def test_weights_reach_the_classifier() -> None:
    rows = data(200, 0)
    weights = np.where(rows.labels == 0, 3.0, 0.5).astype(np.float32)
    weighted = LabelledFeatures(rows.features, rows.labels, weights / weights.mean())
    trained = train(LogisticRegression(), PLAIN, weighted, data(80, 1), 4, 0, CPU, QUIET)
    alone = LogisticRegression().fit(columns(rows), rows.labels, sample_weight=weights / weights.mean())
    np.testing.assert_allclose(probabilities(trained, rows), alone.predict_proba(columns(rows)), atol=1e-3)
    with pytest.raises(UsageError, match=r"`head`.*KNeighborsClassifier.*weights"):
        train(KNeighborsClassifier(), PLAIN, weighted, data(80, 1), 4, 0, CPU, QUIET)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: head_config(LinearSVC()), "LinearSVC.*predict_proba.*CalibratedClassifierCV"),
        (lambda: head_config(LogisticRegression), r"LogisticRegression\(\)"),
        (lambda: fit(LogisticRegression(C=-1)), "LogisticRegression.*'C'"),
        (lambda: fit(LogisticRegression(), several=True), "LogisticRegression.*OneVsRestClassifier"),
        (lambda: fit(SklearnConfig(class_path="sklearn.Any")), "give the scikit-learn classifier"),
    ],
)
def test_wrong_use_is_named(call: Any, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        call()


@pytest.mark.parametrize("classifier", ONE_LABEL, ids=lambda c: type(c).__name__)
def test_saved_and_read_it_answers_alike(classifier: Any, tmp_path: Path) -> None:
    trained = fit(classifier)
    if type(classifier).__name__.startswith("HistGradient") and version("scikit-learn") < "1.7":
        pytest.skip("of this scikit-learn a part of the classifier has no module that could be trusted")
    save_head(trained.head, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["head.skops"]
    config = SklearnConfig.model_validate(trained.head.config.model_dump())
    again = load_head(config, trained.head.shapes, 4, tmp_path)
    assert torch.equal(*(predict_logits(head, data(80, 1).features, 80, CPU) for head in (trained.head, again)))


class Foreign(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    def fit(self, _: np.ndarray, y: np.ndarray) -> "Foreign":
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        return np.full((len(x), len(self.classes_)), 1 / len(self.classes_))

    def predict(self, x: np.ndarray) -> np.ndarray:
        return np.zeros(len(x))


def harmless(x: np.ndarray) -> np.ndarray:
    return x


@pytest.mark.parametrize("classifier", [Foreign(), make_pipeline(FunctionTransformer(harmless), GaussianNB())])
def test_other_types_are_trained_but_not_saved(classifier: Any, tmp_path: Path) -> None:
    trained = fit(classifier)
    with pytest.raises(UsageError, match=r"Foreign|harmless"):
        save_head(trained.head, tmp_path)


@pytest.mark.parametrize("loader", ["FunctionNode", "TypeNode"])
@pytest.mark.parametrize(
    "part",
    [
        "os.system",
        "numpy.memmap",  # would truncate a file
        "numpy.testing.runstring",
        "sklearn.datasets.fetch_openml",
        "sklearn.datasets._openml.GzipFile",  # another package's class
        "mine.Mine",
    ],
)
def test_functions_and_foreign_types_in_a_file_are_refused(part: str, loader: str, tmp_path: Path) -> None:
    from skops import io

    trained = fit(make_pipeline(FunctionTransformer(np.tanh), GaussianNB()))
    content = io.dumps({"classifier": trained.head.classifier, "multilabel": False})
    module, _, name = part.rpartition(".")
    described = f'"__class__": "{name}", "__module__": "{module}", "__loader__": "{loader}"'
    before = r'"__class__": "tanh",\s+"__module__": "[\w.]+",\s+"__loader__": "\w+"'
    write_archive(tmp_path / "head.skops", content, lambda text: re.sub(before, described, text))
    with pytest.raises(FecError, match=rf"rejected.*{part}"):
        load_head(trained.head.config, trained.head.shapes, 4, tmp_path)


def write_archive(path: Path, content: bytes, change: Any) -> None:
    """A skops file with another description."""
    source = path.with_suffix(".zip")
    source.write_bytes(content)
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        for entry in old.infolist():
            inside = old.read(entry)
            new.writestr(entry.filename, change(inside.decode()) if entry.filename == "schema.json" else inside)


def test_a_damaged_file_is_an_error_of_ours(tmp_path: Path) -> None:
    trained = fit(LogisticRegression())
    save_head(trained.head, tmp_path)
    path, config, shapes = tmp_path / "head.skops", trained.head.config, trained.head.shapes
    whole = path.read_bytes()
    generator = np.random.default_rng(0)
    for cut in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(FecError, match=r"head\.skops"):
            load_head(config, shapes, 4, tmp_path)
    for _ in range(60):  # read, perhaps with other numbers, or refused
        changed = bytearray(whole)
        changed[generator.integers(len(whole))] ^= 1 << generator.integers(8)
        path.write_bytes(changed)
        try:
            load_head(config, shapes, 4, tmp_path)
        except FecError:
            continue
    path.unlink()
    with pytest.raises(FecError, match=r"head\.skops"):
        load_head(config, shapes, 4, tmp_path)


def test_a_file_of_other_features_or_labels_is_refused(tmp_path: Path) -> None:
    trained = fit(LogisticRegression())
    save_head(trained.head, tmp_path)
    config, shapes = trained.head.config, trained.head.shapes
    for wrong in ((dict(list(shapes.items())[:1]), 4), (shapes, 3)):
        with pytest.raises(FecError, match="does not fit"):
            load_head(config, *wrong, tmp_path)


def test_a_file_that_unpacks_to_more_is_refused(tmp_path: Path) -> None:
    trained = fit(LogisticRegression())
    with zipfile.ZipFile(tmp_path / "head.skops", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", "0" * 10**7)
    with pytest.raises(FecError, match="larger than the file"):
        load_head(trained.head.config, trained.head.shapes, 4, tmp_path)
