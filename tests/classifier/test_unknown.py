"""Unknown texts, by both estimators, and in a model folder."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from fusion_classifier import FusionClassifier, FusionHeadClassifier
from fusion_classifier.classifier.folder import load_model, save_model
from fusion_classifier.errors import UsageError
from fusion_classifier.training.known import KNOWN_FILE

STRANGE = ["Q17: 1/2 + 3/4 = 5/4; see [9], [10] and {11}", "%%%% #### @@@@ ////"]


def rows(seed: int, count: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows around the centres of some classes."""
    centres, rng = np.random.default_rng(0).normal(size=(6, 14)), np.random.default_rng(seed)
    y = np.arange(count) % classes
    return centres[y] + 0.5 * rng.normal(size=(count, 14)), y


@pytest.fixture(scope="module")
def fitted() -> FusionHeadClassifier:
    X, y = rows(1, 300, 3)
    X_valid, y_valid = rows(2, 99, 3)
    head = FusionHeadClassifier(blocks=[8, 6], training={"max_epochs": 15})
    return head.fit(X, y, X_valid=X_valid, y_valid=y_valid)


def test_rows_of_no_class_get_no_label(fitted: FusionHeadClassifier) -> None:
    X, _ = rows(3, 600, 6)
    strange = np.arange(600) % 6 > 2
    answers = fitted.predict(X, reject_unknown=0.1)
    assert answers.dtype == object
    none = np.array([answer is None for answer in answers])
    np.testing.assert_array_equal(none, fitted.unknown_score(X) > fitted.unknown_threshold(0.1))
    assert none[strange].mean() > 0.8
    assert none[~strange].mean() < 0.2
    assert (answers[~none] == fitted.predict(X)[~none]).all(), "the others keep their label"
    assert fitted.predict(X).dtype == fitted.classes_.dtype, "without it nothing changes"


def test_accepted_texts_keep_their_label_with_offsets(saved_model: Path) -> None:
    classifier = FusionClassifier.from_pretrained(saved_model)
    offsets = (0.0, 0.0, 50.0)  # always the last label
    decision = classifier.config_.decision.model_copy(update={"offsets": offsets})
    classifier.config_ = classifier.config_.model_copy(update={"decision": decision})
    texts = ["we won 1", "he broke it 1"]
    expected = classifier.predict(texts)
    assert expected.tolist() == [classifier.classes_[2]] * 2
    assert classifier.predict(texts, reject_unknown=0.03).tolist() == expected.tolist()


def test_a_saved_classifier_tells_the_same(fitted: FusionHeadClassifier, tmp_path: Path) -> None:
    X, _ = rows(3, 60, 6)
    fitted.save_pretrained(tmp_path / "model")
    for again in (FusionHeadClassifier.from_pretrained(tmp_path / "model"), pickle.loads(pickle.dumps(fitted))):  # noqa: S301
        np.testing.assert_allclose(again.unknown_score(X), fitted.unknown_score(X), atol=1e-5)
        assert again.unknown_threshold() == fitted.unknown_threshold(0.05)


def test_a_folder_of_an_earlier_version_still_loads(fitted: FusionHeadClassifier, tmp_path: Path) -> None:
    fitted.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / KNOWN_FILE).unlink()
    old, (X, _) = FusionHeadClassifier.from_pretrained(tmp_path / "model"), rows(3, 60, 6)
    np.testing.assert_array_equal(old.predict_proba(X), fitted.predict_proba(X))
    for ask in (lambda: old.predict(X, reject_unknown=0.05), lambda: old.unknown_score(X), old.unknown_threshold):
        with pytest.raises(UsageError, match="train the model again"):
            ask()
    saved = load_model(tmp_path / "model")
    assert saved.known is None
    save_model(tmp_path / "again", saved.config, saved.head, "card", known=fitted.known_)
    assert load_model(tmp_path / "again").known is not None


@pytest.mark.parametrize("head", ["linear", LogisticRegression()])
def test_what_is_switched_off_is_not_kept(head: Any, tmp_path: Path) -> None:
    X, y = rows(1, 60, 3)
    FusionHeadClassifier(head, training={"known_texts": False}).fit(X, y).save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model" / KNOWN_FILE).exists()


def test_several_labels_per_row_are_not_rejected() -> None:
    X, y = rows(1, 90, 3)
    several = FusionHeadClassifier(training={"max_epochs": 2}).fit(X, np.eye(3, dtype=int)[y])
    with pytest.raises(UsageError, match="several labels"):
        several.predict(X, reject_unknown=0.05)


@pytest.mark.parametrize("rate", [0, 1, 5])
def test_a_rate_that_is_no_share_is_refused(fitted: FusionHeadClassifier, rate: float) -> None:
    with pytest.raises(UsageError, match="`reject_unknown`"):
        fitted.predict(rows(3, 6, 6)[0], reject_unknown=rate)


def test_texts_of_no_class_get_no_label(saved_model: Path) -> None:
    classifier = FusionClassifier.from_pretrained(saved_model)
    known = [f"{word} {i}" for i in range(3) for word in ("we won", "he broke it", "it is dark")]
    answers = classifier.predict(known + STRANGE, reject_unknown=0.3)
    assert answers[-len(STRANGE) :].tolist() == [None] * len(STRANGE)
    assert sum(answer is not None for answer in answers[: len(known)]) > len(known) / 2
    scores = classifier.unknown_score(known + STRANGE)
    assert scores.dtype == np.float32
    assert scores[: len(known)].max() < scores[len(known) :].min()
    logits, same = classifier.predict_scored_logits(known + STRANGE)
    assert same is not None
    assert len(logits) == len(scores)
    np.testing.assert_allclose(same, scores, atol=0.01)
    assert classifier.predict([], reject_unknown=0.3).shape == (0,)
    with pytest.warns(UserWarning, match="held-out texts are too few for a false-alarm rate of 0.01"):
        classifier.predict(known, reject_unknown=0.01)
