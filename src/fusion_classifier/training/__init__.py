"""Training: one loop, several seeds."""

from fusion_classifier.training.data import LabelledFeatures
from fusion_classifier.training.decision import Decision, fit_decision
from fusion_classifier.training.loop import Epoch, Trained, deterministic, inference_batches, predict_logits, train
from fusion_classifier.training.recipes import RECIPES, recipe

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
