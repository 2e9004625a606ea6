"""What metrics are called in tables, reports and cards."""

METRIC_TITLES = {
    "accuracy": "accuracy",
    "weighted_f1": "weighted F1",
    "macro_f1": "macro F1",
    "top3_accuracy": "top-3 accuracy",
    "nll": "negative log-likelihood",
    "micro_f1": "micro F1",
    "map": "mean average precision",
    "subset_accuracy": "all labels right",
    "ece": "calibration error (ECE)",
}
NOT_PERCENT = ("nll",)
