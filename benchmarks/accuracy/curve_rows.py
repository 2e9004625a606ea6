"""Result rows of the learning curves: JSON Lines, one object per training run and scored split."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from curve_data import Cell, Corpus, fingerprint, key_of
from sklearn.metrics import accuracy_score, f1_score

ECE_BINS = 15
PROCESSOR = "processor"  # `machine` of the rows whose seconds are compared: those of `learning_curve.py`


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
        cell: The trained cell.
        split: Scored split, `valid` or `test`.
        corpus: Data set.
        probabilities: Probabilities of the split's texts (N, C).
        rows: Indices of the training rows in the pool.
        train_seconds: Time for training, with features ready.
        predict_seconds: Time for predicting the split, with features ready.
        probabilistic: Whether the system returns probabilities, so that the calibration error is defined.
        extra: Further fields, such as settings and the machine.
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
    """Mean gap between confidence and accuracy over 15 bins of equal width, weighted by their texts."""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    bins = np.clip(np.ceil(confidence * ECE_BINS).astype(int) - 1, 0, ECE_BINS - 1)
    distance = np.zeros(ECE_BINS)
    np.add.at(distance, bins, confidence - right)
    return float(np.abs(distance).sum() / len(labels))


def read_rows(file: Path) -> list[dict[str, Any]]:
    """All complete rows of a file, without a truncated last line. Empty if there is no file."""
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
    """Append a row on a new line, even after a truncated one."""
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
