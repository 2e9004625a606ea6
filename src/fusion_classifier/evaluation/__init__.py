"""Evaluation: metrics, intervals, overlap, predictions, pictures."""

from fusion_classifier.evaluation.metrics import METRICS, per_class, score, summarize
from fusion_classifier.evaluation.overlap import overlap
from fusion_classifier.evaluation.predictions import SplitPredictions, write_predictions

__all__ = ["METRICS", "SplitPredictions", "overlap", "per_class", "score", "summarize", "write_predictions"]
