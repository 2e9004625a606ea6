"""Predictions as lines of JSON, in the output format of transformers' text-classification pipeline.

Without `top_k` one object a text, `{"label": …, "score": …}`; with it a list of the K best. A multi-label model
answers with the list of all labels it gives. Below the confidence `abstain` the label is null.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from fusion_classifier.classifier import FusionClassifier
from fusion_classifier.config import Device
from fusion_classifier.errors import DataError, UsageError
from fusion_classifier.tasks.table import checked_text, column, read_rows, read_utf8
from fusion_classifier.training.decision import Decision


def predict_lines(
    model: Path,
    texts: Sequence[str],
    file: Path | None,
    text_column: str,
    top_k: int | None,
    abstain: float | None,
    encoder_paths: Mapping[str, str],
    device: Device,
) -> Iterator[str]:
    """One line of JSON a text: those given, then those of the file, in order.

    Raises:
        UsageError: no text given.
        DataError, FecError: see the messages.
    """
    if not texts and file is None:
        raise UsageError("give one or more texts, or --file")
    for position, text in enumerate(texts, start=1):
        if not text.strip():
            raise DataError(f"text {position} is empty")
    # A fault in the file is reported before the models are loaded, except on a stream.
    from_file: Iterable[str] = []
    if file is not None:
        from_file = _stream_lines() if str(file) == "-" else list(_file_texts(file, text_column))
    classifier = FusionClassifier.from_pretrained(model, device=device, encoder_paths=encoder_paths)
    names, decision = classifier.config_.labels, classifier.config_.decision
    if decision.multilabel and abstain is not None:
        raise UsageError(
            f"--abstain: the model in {model} may give no label at all, by a threshold for each; leave it out"
        )

    def everything() -> Iterator[str]:
        yield from texts
        yield from from_file

    for probabilities in classifier.predict_proba_stream(everything()):
        for row in probabilities:
            yield json.dumps(as_pipeline(row, names, decision, top_k, abstain), ensure_ascii=False)


def as_pipeline(
    row: np.ndarray, names: Sequence[str], decision: Decision, top_k: int | None, abstain: float | None
) -> object:
    """The answer for one text with the probabilities `row`, (C,); see the module's docstring."""
    order = np.argsort(-row, kind="stable")
    if top_k is None and decision.multilabel:
        given = decision.labels(row[None])[0]
        return [{"label": names[i], "score": float(row[i])} for i in order if given[i]]
    answers: list[dict[str, object]] = [{"label": names[i], "score": float(row[i])} for i in order[: top_k or 1]]
    if abstain is not None and row.max() < abstain:
        answers = [{"label": None, "score": float(row.max())}]
    return answers if top_k else answers[0]


def _file_texts(path: Path, text_column: str) -> Iterator[str]:
    if path.suffix.lower() == ".txt":
        if not path.is_file():
            raise DataError(f"{path}: no such file")
        for number, line in enumerate(read_utf8(path).splitlines(), start=1):
            yield checked_text(path, f"line {number}", line)
        return
    for row in read_rows(path, (text_column,)):
        yield checked_text(path, row.where, column(path, row, text_column, "--text-column"))


def _stream_lines() -> Iterator[str]:
    for number, line in enumerate(sys.stdin, start=1):
        yield checked_text(Path("standard input"), f"line {number}", line.rstrip("\n"))
