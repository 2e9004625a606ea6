"""Training: one loop, several seeds."""

from fusion_classifier.training.calibration import Decision, fit_decision
from fusion_classifier.training.data import LabelledFeatures
from fusion_classifier.training.defaults import RECIPES, recipe
from fusion_classifier.training.loop import Epoch, Trained, deterministic, inference_batches, predict_logits, train

__all__ = [
    "RECIPES",
    "Decision",
    "Epoch",
    "LabelledFeatures",
    "Trained",
    "deterministic",
    "fit_decision",
    "inference_batches",
    "predict_logits",
    "recipe",
    "train",
]
