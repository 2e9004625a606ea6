"""`FusionHeadClassifier`: scikit-learn's contract, and what it adds to it."""

from collections.abc import Callable

from sklearn.base import BaseEstimator
from sklearn.utils.estimator_checks import parametrize_with_checks

from fusion_classifier import FusionHeadClassifier


@parametrize_with_checks([FusionHeadClassifier()])  # type: ignore[untyped-decorator]
def test_it_is_a_scikit_learn_estimator(estimator: BaseEstimator, check: Callable[[BaseEstimator], None]) -> None:
    check(estimator)
