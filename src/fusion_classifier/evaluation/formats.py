"""How metrics and sizes are written in tables, reports and cards."""

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


def size(count: float) -> str:
    """Bytes as a person reads them."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
