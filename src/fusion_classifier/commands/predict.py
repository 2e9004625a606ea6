"""Predictions as lines of JSON, as rows for a person, or as a file with the texts.

A line is what transformers' text-classification pipeline returns: without `top_k` one object per text,
`{"label": …, "score": …}`; with it a list of the K best. A multi-label model answers with the list of the labels it
gives. Where the best probability is below `abstain` the label is null. A file has the text, `label` and `score`, or
lists of these.

Texts are read, encoded and written in blocks, so that memory does not grow with their number.
"""

import csv
import json
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import chain, tee
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion_classifier.classifier.explanation import Explanation
from fusion_classifier.classifier.prediction import TextPredictor
from fusion_classifier.config import Device
from fusion_classifier.errors import DataError, UsageError
from fusion_classifier.support.files import atomic_file
from fusion_classifier.support.progress import Progress
from fusion_classifier.tasks.readers import checked_text, texts_of
from fusion_classifier.training.decision import Decision

if TYPE_CHECKING:
    from fusion_classifier.cluster.pool import RayEngine

# pyarrow and Ray are imported where they are used: one text from the command line needs neither.
# ruff: noqa: PLC0415

OUT_ENDINGS = (".csv", ".jsonl", ".parquet")
PARQUET_ROWS = 16384  # per row group
Write = Callable[[list[dict[str, Any]]], None]


@dataclass(frozen=True)
class Predictions:
    """Predictions of a saved model, which is loaded once the texts are known to be readable.

    Attributes:
        model: Model folder, run folder, model of the package, or Hub id.
        encoder_paths: Places of the encoders' weights, by encoder name.
        device: Device of the model.
        top_k: Number of labels per text. Default: the best one, or all that a multi-label model gives.
        abstain: Probability below which no label is given.
    """

    model: str | Path
    encoder_paths: Mapping[str, str] = field(default_factory=dict)
    device: Device = "auto"
    top_k: int | None = None
    abstain: float | None = None

    def rows(self, texts: Sequence[str]) -> Iterator[tuple[str, list[tuple[str, float, bool]]]]:
        """Each text with all labels and probabilities, the most probable first, and whether the label is given.

        Raises:
            FecError: A text is empty, or the model can't be used.
        """
        _check_given(texts)
        classifier = self._load()
        names, decision = classifier.config_.labels, classifier.config_.decision
        for text, row in zip(texts, classifier.predict_proba(texts), strict=True):
            order = np.argsort(-row, kind="stable")
            if decision.multilabel:
                given = decision.labels(row[None])[0].astype(bool)
            else:
                given = (np.arange(len(row)) == order[0]) & (row >= (self.abstain or 0))
            yield text, [(names[i], float(row[i]), bool(given[i])) for i in order]

    def lines(self, texts: Sequence[str], file: Path | None = None, text_column: str = "text") -> Iterator[str]:
        """One line of JSON per text: those given, then those of the file, in order.

        Raises:
            FecError: No text is given, one is empty, or the file or the model can't be used.
        """
        if not texts and file is None:
            raise UsageError("give one or more texts, or `file`")
        _check_given(texts)
        from_file: Iterator[str] = iter(()) if file is None else _checked_file(file, text_column)[1]
        classifier = self._load()
        for probabilities in classifier.predict_proba_stream(chain(texts, from_file)):
            for row in probabilities:
                yield json.dumps(self._answer(row, classifier), ensure_ascii=False)

    def to_file(
        self, file: Path, out: Path, text_column: str, progress: Progress, ray: "RayEngine | None" = None
    ) -> int:
        """Write the texts of a file with their predictions as CSV, JSONL or Parquet; the number of texts.

        The file is written whole or not at all; an earlier one is replaced.

        Raises:
            UsageError: A place or an ending that can't be written, or lists of labels as CSV.
            FecError: The texts or the model can't be used.
        """
        _check_out(out, file)
        count, texts = _checked_file(file, text_column)
        classifier = self._load()
        lists = self.top_k is not None or classifier.config_.decision.multilabel
        if lists and out.suffix.lower() == ".csv":
            raise UsageError(f"`out`: several labels per text don't fit into {out}; end it in .jsonl or .parquet")
        stream: Generator[np.ndarray]
        if ray is None:
            kept, encoded = tee(texts)  # never further apart than a block
            stream = classifier.predict_proba_stream(encoded)
        else:
            if count is None:
                raise UsageError("Ray's workers can't read the standard input of this process; give a file")
            from fusion_classifier.cluster.predict import predict_proba_ray

            kept, stream = texts, predict_proba_ray(self.model, file, text_column, self.encoder_paths, ray)
        key, done = text_key(text_column), 0
        # The stream is closed when writing fails, too: Ray's workers must not wait for a reader that is gone.
        with closing(stream), progress.bar("predicting", total=count) as bar, atomic_file(out) as temporary:
            with writer(temporary, key, lists=lists) as write:
                for probabilities in stream:
                    answers = [self._answer(row, classifier) for row in probabilities]
                    write([{key: next(kept)} | flat(answer) for answer in answers])
                    done += len(answers)
                    bar.advance(len(answers))
            bar.finish()
        return done

    def _load(self) -> TextPredictor:
        classifier = TextPredictor.from_pretrained(self.model, device=self.device, encoder_paths=self.encoder_paths)
        if classifier.config_.decision.multilabel and self.abstain is not None:
            raise UsageError(
                f"`abstain`: {self.model} has a threshold for each label and may give none; leave it out"
            )
        return classifier

    def _answer(self, row: np.ndarray, classifier: TextPredictor) -> object:
        config = classifier.config_
        return as_pipeline(row, config.labels, config.decision, self.top_k, self.abstain)


def explain_text(
    model: str | Path,
    texts: Sequence[str],
    label: str | None,
    most_spans: int,
    encoder_paths: Mapping[str, str],
    device: Device,
) -> Explanation:
    """Which words of a text carry a label. Default: the most probable label.

    Raises:
        UsageError: Not exactly one text, or a label that the model does not have.
        FecError: The text is empty, or the model can't be used.
    """
    if len(texts) != 1:
        raise UsageError(f"{len(texts)} texts to explain: give one, in quotation marks")
    _check_given(texts)
    classifier = TextPredictor.from_pretrained(model, device=device, encoder_paths=encoder_paths)
    return classifier.explain(texts[0], label, most_spans=most_spans)


def _check_given(texts: Sequence[str]) -> None:
    for position, text in enumerate(texts, start=1):
        if not text.strip():
            raise DataError(f"text {position} is empty")


def _check_out(out: Path, file: Path) -> None:
    if out.suffix.lower() not in OUT_ENDINGS:
        raise UsageError(f"`out`: {out} must end in {', '.join(OUT_ENDINGS[:-1])} or {OUT_ENDINGS[-1]}")
    if out.is_dir():
        raise UsageError(f"`out`: {out} is a folder; give a file")
    if out.exists() and file.exists() and out.samefile(file):
        raise UsageError(f"`out`: {out} is the file with the texts; choose another name")


def _checked_file(path: Path, text_column: str) -> tuple[int | None, Iterator[str]]:
    """The number of texts in a file, None for standard input, and the texts one by one.

    A file is first read to its end, so that an error in it is reported before the models are loaded.
    """
    if str(path) == "-":
        lines = enumerate(sys.stdin, start=1)
        return None, (checked_text(line.rstrip("\n"), f"standard input, line {n}") for n, line in lines)
    return sum(1 for _ in texts_of(path, text_column)), texts_of(path, text_column)


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


def flat(answer: Any) -> dict[str, object]:
    """An answer as columns."""
    if isinstance(answer, dict):
        return answer
    return {"labels": [one["label"] for one in answer], "scores": [one["score"] for one in answer]}


def text_key(text_column: str) -> str:
    """The name of the texts' column beside the answers, different from theirs."""
    return text_column if text_column not in ("label", "score", "labels", "scores") else "text"


@contextmanager
def writer(path: Path, key: str, *, lists: bool) -> Iterator[Write]:
    """A function that writes rows into a new file, whose ending says the format.

    Args:
        path: The file.
        key: Name of the texts' column.
        lists: Whether a row has lists of labels and scores.
    """
    ending = path.suffix.lower()
    if ending == ".parquet":
        with _parquet_writer(path, key, lists) as write:
            yield write
    elif ending == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            rows = csv.DictWriter(file, [key, "label", "score"])
            rows.writeheader()
            yield rows.writerows
    else:
        with path.open("w", encoding="utf-8", newline="\n") as file:
            yield lambda rows: file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


@contextmanager
def _parquet_writer(path: Path, key: str, lists: bool) -> Iterator[Write]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {"label": pa.string(), "score": pa.float32()}
    if lists:
        columns = {f"{name}s": pa.list_(kind) for name, kind in columns.items()}
    schema = pa.schema({key: pa.string()} | columns)
    waiting: list[dict[str, Any]] = []
    with pq.ParquetWriter(path, schema) as parquet:

        def write(rows: list[dict[str, Any]], least: int = PARQUET_ROWS) -> None:
            waiting.extend(rows)
            if len(waiting) >= least:
                parquet.write_table(pa.Table.from_pylist(waiting, schema))
                waiting.clear()

        yield write
        write([], least=1)
