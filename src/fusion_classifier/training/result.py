"""Result of a training run: the head, its metrics per epoch, and what was fitted with it."""

from dataclasses import dataclass

from fusion_classifier.fusion.head import Head, OutOfFold
from fusion_classifier.training.decision import Decision, Member
from fusion_classifier.training.known import KnownTexts


@dataclass(frozen=True)
class Epoch:
    """Figures of one epoch. Losses are in nats; `seconds` includes validation."""

    epoch: int
    train_loss: float
    valid_loss: float
    valid_accuracy: float
    valid_weighted_f1: float
    seconds: float
    valid_macro_f1: float = 0.0  # 0 where it is not measured, in fine-tuning

    def score(self, metric: str) -> float:
        """The validation score with this name, as in `TrainingConfig.metric`."""
        return float(getattr(self, f"valid_{metric}"))


@dataclass(frozen=True)
class TrainingResult:
    """A trained head with the weights of the kept epoch.

    Attributes:
        head: The head.
        decision: Calibration and thresholds, fitted on the validation split.
        seed: Random seed of the training run.
        best_epoch: Number of the epoch that was kept, from 1.
        history: Metrics per epoch; a single entry for heads that are fitted in one step, such as scikit-learn's.
        known: Statistics for detecting unknown texts (unknown.py); None if not fitted.
        members: Members of the head `ensemble`, with their weights.
        out_of_fold: Predictions of training texts by heads trained without them, if any.
    """

    head: Head
    decision: Decision
    seed: int
    best_epoch: int
    history: tuple[Epoch, ...]
    known: KnownTexts | None = None
    members: tuple[Member, ...] = ()
    out_of_fold: OutOfFold | None = None

    @property
    def best(self) -> Epoch:
        """The kept epoch."""
        return self.history[self.best_epoch - 1]
