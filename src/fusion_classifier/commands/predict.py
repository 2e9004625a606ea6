"""Predictions as JSON lines, as rows for display, or as a file.

Each line or row has all columns of the input row and of the answer (commands/answers.py); a text given as an argument
is the column `text`. Rows are in input order. Texts are read, encoded and written in blocks, so that memory does not
grow with their number.
"""

import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain, tee
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion_classifier.classifier.models import text_column_of
from fusion_classifier.classifier.text_classifier import TextClassifier, load_classifier
from fusion_classifier.commands.answers import Answers, beside
from fusion_classifier.commands.prediction_file import as_line, check_out, writer
from fusion_classifier.config import Device, TextColumns
from fusion_classifier.errors import DataError, UsageError
from fusion_classifier.support.files import atomic_file
from fusion_classifier.support.progress import Progress
from fusion_classifier.support.text import counted
from fusion_classifier.tasks.readers import given_columns, given_rows, given_text

if TYPE_CHECKING:
    import pyarrow as pa

    from fusion_classifier.cluster.pool import RayEngine

# Ray is imported on use: a single text from the command line does not need it.
# ruff: noqa: PLC0415

Part = tuple[np.ndarray, np.ndarray]  # probabilities (n, C) and unknown scores (n,) for n texts
Given = tuple[Mapping[str, Any], str | None]  # a row and its text, None if it is missing


@dataclass(frozen=True)
class GivenFile:
    """A file of texts that was read completely once, so that errors are found before a model is loaded.

    Attributes:
        columns: Its columns with their Parquet types; None: inferred from the values.
        count: Number of rows. None: standard input, which is read only once.
        missing: Number of rows without a text.
    """

    path: Path
    text_column: TextColumns
    columns: Mapping[str, "pa.DataType | None"]
    count: int | None
    missing: int = 0
    encoding: str | None = None

    @classmethod
    def read(cls, path: Path, text_column: TextColumns, encoding: str | None = None) -> "GivenFile":
        """Read a file."""
        if str(path) == "-":
            return cls(path, "text", {"text": None}, None)
        columns, count, missing = given_columns(path, text_column, encoding), 0, 0
        for values, text in given_rows(path, text_column, encoding):
            count, missing = count + 1, missing + (text is None)
            columns |= dict.fromkeys(name for name in values if name not in columns)
        return cls(path, text_column, columns, count, missing, encoding)

    def rows(self) -> Iterator[Given]:
        """Yield the rows and their texts."""
        if self.count is not None:
            yield from given_rows(self.path, self.text_column, self.encoding)
            return
        for number, line in enumerate(sys.stdin, start=1):
            text = line.rstrip("\n")
            yield {"text": text}, given_text(text, f"standard input, line {number}")


@dataclass(frozen=True)
class Predictions:
    """Predictions of a saved model, which is loaded after the texts have been checked.

    Attributes:
        model: Model folder, run folder, built-in model, or Hub id.
        encoder_paths: Paths of the encoders' weights, by encoder name.
        device: Device of the model.
        top_k: Number of labels per text. Default: the best one, or all predicted by a multi-label model.
        abstain: Minimum probability for giving a label.
        reject_unknown: False-alarm rate: share of known texts that may be rejected as unknown. Default: no rejection.
        encoding: Encoding of a text file. Default: UTF-8, or UTF-16 with a byte order mark.
        text_column: Columns of a file's texts. Default: those that the model was trained on.
        say: Called with messages for the user. Default: no messages.
    """

    model: str | Path
    encoder_paths: Mapping[str, str] = field(default_factory=dict)
    device: Device = "auto"
    top_k: int | None = None
    abstain: float | None = None
    reject_unknown: float | None = None
    encoding: str | None = None
    text_column: TextColumns | None = None
    say: Callable[[str], None] = lambda _: None

    def rows(self, texts: Sequence[str]) -> Iterator[tuple[str, list[tuple[str, float, bool]], bool]]:
        """Yield each text with all labels and probabilities, the most probable first, and whether each label is
        predicted.

        The last value is whether the text is rejected as unknown.
        """
        _check_given(texts)
        classifier = self._load()
        names, decision, answers = classifier.config_.labels, classifier.config_.decision, self._answers(classifier)
        found = (pair for part in self._stream(classifier, texts) for pair in zip(*part, strict=True))
        for text, (row, score) in zip(texts, found, strict=True):
            unknown = answers.is_unknown(score)
            order = np.argsort(-decision.ranks_by(row), kind="stable")
            if decision.multilabel:
                given = decision.labels(row[None])[0].astype(bool)
            else:
                given = (np.arange(len(row)) == order[0]) & (row >= (self.abstain or 0))
            yield text, [(names[i], float(row[i]), bool(given[i]) and not unknown) for i in order], unknown

    def lines(self, texts: Sequence[str], file: Path | None = None) -> Iterator[str]:
        """Yield one JSON line per text: the given ones, then those of the file, in order."""
        if not texts and file is None:
            raise UsageError("give one or more texts, or `file`")
        _check_given(texts)
        read = None if file is None else self._read(file)
        classifier = self._load()
        answers = self._answers(classifier)
        names = self._names(answers, read)
        rows: Iterator[Given] = chain(({"text": text}, text) for text in texts)
        if read is not None:
            rows = chain(rows, read.rows())
        for_rows, encoded = tee(rows)  # at most one block apart
        stream = self._stream(classifier, (text for _, text in encoded if text is not None))
        for part in answered(for_rows, stream, answers, names):
            yield from map(as_line, part)

    def to_file(self, file: Path, out: Path, progress: Progress, ray: "RayEngine | None" = None) -> int:
        """Write the rows of a file with their predictions as CSV, JSONL or Parquet; returns the number of rows.

        The file is written atomically; an existing one is replaced.
        """
        check_out(out, file)
        read = self._read(file)
        classifier = self._load()
        answers = self._answers(classifier)
        names = self._names(answers, read)
        rows, encoded = tee(read.rows()) if ray is None else (read.rows(), iter(()))
        stream: Generator[Part]
        if ray is None:
            stream = self._stream(classifier, (text for _, text in encoded if text is not None))
        else:
            if read.count is None:
                raise UsageError("Ray's workers can't read the standard input of this process; give a file")
            from fusion_classifier.cluster.predict import predict_ray

            stream = predict_ray(
                self.model,
                file,
                read.text_column,
                self.encoder_paths,
                ray,
                scored=self.reject_unknown is not None,
                encoding=self.encoding,
            )
        columns, done = {names[name]: kind for name, kind in answers.columns().items()}, 0
        # Also closed if writing fails: Ray's workers must not wait for a reader that has finished.
        with closing(stream), progress.bar("predicting", total=read.count) as bar, atomic_file(out) as temporary:
            with writer(temporary, read.columns, columns) as write:
                for part in answered(rows, stream, answers, names):
                    write(part)
                    done += len(part)
                    bar.advance(len(part))
            bar.finish()
        return done

    def _names(self, answers: Answers, read: GivenFile | None) -> dict[str, str]:
        """Names of the answer's columns that are distinct from those of a file."""
        columns = list(answers.columns())
        if read is None:
            return beside(columns, ())
        if read.missing:
            self.say(f"{read.path}: {counted(read.missing, 'row')} without a text; their answers are null")
        names = beside(columns, list(read.columns))
        if columns[0] != names[columns[0]]:
            taken = ", ".join(name for name in columns if name in read.columns)
            self.say(f"{read.path} already has {taken}; the answers are in {', '.join(names.values())}")
        return names

    def _read(self, file: Path) -> GivenFile:
        """A file with texts, before the model is loaded."""
        return GivenFile.read(file, self.text_column or text_column_of(self.model), self.encoding)

    def _load(self) -> TextClassifier:
        classifier = load_classifier(self.model, self.device, self.encoder_paths)
        if classifier.config_.decision.multilabel and self.abstain is not None:
            raise UsageError(
                f"`abstain`: {self.model} has a threshold per label and can already predict none; leave it out"
            )
        classifier.say = self.say
        return classifier

    def _answers(self, classifier: TextClassifier) -> "Answers":
        rate, config = self.reject_unknown, classifier.config_
        threshold = None if rate is None else classifier.unknown_threshold(rate)
        if rate is not None and classifier.known_ is not None and (note := classifier.known_.note(rate)):
            self.say(note)
        return Answers(config.labels, config.decision, self.top_k, self.abstain, threshold)

    def _stream(self, classifier: TextClassifier, texts: Iterable[str]) -> Generator[Part]:
        """Probabilities of texts, and their unknown scores if requested, otherwise 0."""
        if self.reject_unknown is not None:
            yield from classifier.predict_scored_stream(texts)
            return
        for probabilities in classifier.predict_proba_stream(texts):
            yield probabilities, np.zeros(len(probabilities), np.float32)


def _check_given(texts: Sequence[str]) -> None:
    for position, text in enumerate(texts, start=1):
        if not text.strip():
            raise DataError(f"text {position} is empty")


def answered(
    rows: Iterator[Given], stream: Iterable[Part], answers: Answers, names: Mapping[str, str]
) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows with their answers, in order, in parts."""
    nothing = {names[name]: value for name, value in answers.missing().items()}
    for part in stream:
        found: list[dict[str, Any]] = []
        for row, score in zip(*part, strict=True):
            for values, text in rows:
                if text is not None:
                    found.append({**values, **{names[k]: v for k, v in answers.of(row, score).items()}})
                    break
                found.append({**values, **nothing})
        yield found
    yield [{**values, **nothing} for values, _ in rows]
