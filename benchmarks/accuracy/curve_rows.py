"""Rows of the learning curves' results: one JSON object a line, one per training and split scored."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from curve_data import Cell, Corpus, fingerprint, key_of
from sklearn.metrics import accuracy_score, f1_score

ECE_BINS = 15
PROCESSOR = "processor"  # `machine` of the rows whose seconds are compared: of `learning_curve.py`


def row_of(
    cell: Cell,
    split: str,
    corpus: Corpus,
    probabilities: np.ndarray,
    *,
    rows: np.ndarray,
    train_seconds: float,
    predict_seconds: float,
    probabilistic: bool = True,
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The result of a cell on a split.

    Args:
        cell: what was trained.
        split: what was scored, `valid` or `test`.
        corpus: the data set.
        probabilities: of the split's texts, (N, C).
        rows: numbers of the pool's rows that were trained on.
        train_seconds: of training, features ready.
        predict_seconds: of predicting the split, features ready.
        probabilistic: whether the system gives probabilities, so that they have a calibration error.
        extra: anything else: settings, the machine.
    """
    labels, predicted = corpus.judged(split).labels, probabilities.argmax(1)
    return {
        "dataset": cell.dataset,
        "split": split,
        "n": cell.size,
        "draw": cell.draw,
        "system": cell.system,
        "rows": len(rows),
        "drawn": fingerprint(rows),
        "classes": len(corpus.classes),
        "accuracy": float(accuracy_score(labels, predicted)),
        "macro_f1": float(f1_score(labels, predicted, average="macro", zero_division=0)),
        "ece": expected_calibration_error(labels, probabilities) if probabilistic else None,
        "train_seconds": round(train_seconds, 4),
        "predict_seconds": round(predict_seconds, 4),
        **(extra or {}),
    }


def expected_calibration_error(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean distance between confidence and accuracy over 15 bins of equal width, weighted by their texts."""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    bins = np.clip(np.ceil(confidence * ECE_BINS).astype(int) - 1, 0, ECE_BINS - 1)
    distance = np.zeros(ECE_BINS)
    np.add.at(distance, bins, confidence - right)
    return float(np.abs(distance).sum() / len(labels))


def read_rows(file: Path) -> list[dict[str, Any]]:
    """All whole rows of a file; a last line that a stop cut off is left out. No file: none."""
    if not file.is_file():
        return []
    rows = []
    lines = file.read_text("utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            key_of(row)
        except (ValueError, KeyError, TypeError):
            if number == len(lines):
                break
            raise ValueError(f"{file}, line {number}: not a row of a learning curve") from None
        rows.append(row)
    return rows


def append_row(file: Path, row: Mapping[str, Any]) -> None:
    """Add a row, on a line of its own even after one that was cut off."""
    file.parent.mkdir(parents=True, exist_ok=True)
    line = (json.dumps(row, ensure_ascii=False) + "\n").encode()
    with file.open("ab+") as stream:
        end = stream.seek(0, 2)
        if end:
            stream.seek(end - 1)
            if stream.read(1) != b"\n":
                whole = file.read_bytes().rfind(b"\n") + 1
                stream.truncate(whole)
        stream.write(line)
