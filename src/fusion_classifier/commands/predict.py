"""Predictions as lines of JSON, as rows for a person, or as a file with the texts.

A line is what transformers' text-classification pipeline returns: without `top_k` one object per text,
`{"label": …, "score": …}`; with it a list of the K best. A multi-label model answers with the list of the labels it
gives. Where the best probability is below `abstain` the label is null. A file has the text, `label` and `score`, or
lists of these.

With `reject_unknown` each object, or row of a file, also has `unknown` (true or false) and `unknown_score`. Where a
text seems to belong to no class `unknown` is true and the label null; the score is that of the best label.

Texts are read, encoded and written in blocks, so that memory does not grow with their number.
"""

import csv
import json
import sys
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
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
Part = tuple[np.ndarray, np.ndarray]  # probabilities (n, C) and unknown scores (n,) of some texts


@dataclass(frozen=True)
class Predictions:
    """Predictions of a saved model, which is loaded once the texts are known to be readable.

    Attributes:
        model: Model folder, run folder, model of the package, or Hub id.
        encoder_paths: Places of the encoders' weights, by encoder name.
        device: Device of the model.
        top_k: Number of labels per text. Default: the best one, or all that a multi-label model gives.
        abstain: Probability below which no label is given.
        reject_unknown: Share of known texts that may be rejected as unknown by mistake. Default: none is rejected.
        say: Called with what the user should know. Default: nothing is said.
    """

    model: str | Path
    encoder_paths: Mapping[str, str] = field(default_factory=dict)
    device: Device = "auto"
    top_k: int | None = None
    abstain: float | None = None
    reject_unknown: float | None = None
    say: Callable[[str], None] = lambda _: None

    def rows(self, texts: Sequence[str]) -> Iterator[tuple[str, list[tuple[str, float, bool]], bool]]:
        """Each text with all labels and probabilities, the most probable first, and whether the label is given.

        The last value says whether the text is rejected as unknown.

        Raises:
            FecError: A text is empty, or the model can't be used.
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
        answers = self._answers(classifier)
        for part in self._stream(classifier, chain(texts, from_file)):
            for row, score in zip(*part, strict=True):
                yield json.dumps(answers.of(row, score), ensure_ascii=False)

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
        stream: Generator[Part]
        if ray is None:
            kept, encoded = tee(texts)  # never further apart than a block
            stream = self._stream(classifier, encoded)
        else:
            if count is None:
                raise UsageError("Ray's workers can't read the standard input of this process; give a file")
            from fusion_classifier.cluster.predict import predict_ray

            scored = self.reject_unknown is not None
            kept, stream = texts, predict_ray(self.model, file, text_column, self.encoder_paths, ray, scored=scored)
        answers = self._answers(classifier)
        columns = answers.columns(lists=lists)
        key, done = text_key(text_column, columns), 0
        # The stream is closed when writing fails, too: Ray's workers must not wait for a reader that is gone.
        with closing(stream), progress.bar("predicting", total=count) as bar, atomic_file(out) as temporary:
            with writer(temporary, key, columns) as write:
                for part in stream:
                    rows = [flat(answers.of(row, score)) for row, score in zip(*part, strict=True)]
                    write([{key: next(kept)} | row for row in rows])
                    done += len(rows)
                    bar.advance(len(rows))
            bar.finish()
        return done

    def _load(self) -> TextPredictor:
        classifier = TextPredictor.from_pretrained(self.model, device=self.device, encoder_paths=self.encoder_paths)
        if classifier.config_.decision.multilabel and self.abstain is not None:
            raise UsageError(
                f"`abstain`: {self.model} has a threshold for each label and may give none; leave it out"
            )
        return classifier

    def _answers(self, classifier: TextPredictor) -> "Answers":
        rate, config = self.reject_unknown, classifier.config_
        threshold = None if rate is None else classifier.unknown_threshold(rate)
        if rate is not None and classifier.known_ is not None and (note := classifier.known_.note(rate)):
            self.say(note)
        return Answers(config.labels, config.decision, self.top_k, self.abstain, threshold)

    def _stream(self, classifier: TextPredictor, texts: Iterable[str]) -> Generator[Part]:
        """Probabilities of some texts, and how unknown they are if that is asked for, else 0."""
        if self.reject_unknown is not None:
            yield from classifier.predict_scored_stream(texts)
            return
        for probabilities in classifier.predict_proba_stream(texts):
            yield probabilities, np.zeros(len(probabilities), np.float32)


@dataclass(frozen=True)
class Answers:
    """What is answered for probabilities and unknown scores; the attributes are those of `Predictions`.

    Attributes:
        threshold: Unknown score above which a text is rejected. None: that is not asked for.
    """

    names: Sequence[str]
    decision: Decision
    top_k: int | None = None
    abstain: float | None = None
    threshold: float | None = None

    def is_unknown(self, score: float) -> bool:
        """Whether a text with this unknown score is rejected."""
        return self.threshold is not None and bool(score > self.threshold)

    def of(self, row: np.ndarray, score: float = 0.0) -> Any:
        """The answer for a text with the probabilities `row`, (C,), and this unknown score."""
        answer = as_pipeline(row, self.names, self.decision, self.top_k, self.abstain)
        if self.threshold is None:
            return answer
        unknown = self.is_unknown(score)
        found = {"unknown": unknown, "unknown_score": float(score)}
        answers: list[dict[str, object]] = answer if isinstance(answer, list) else [answer]
        if unknown:
            answers = [{"label": None, "score": float(row.max())}]
        answers = [one | found for one in answers]
        return answers if isinstance(answer, list) else answers[0]

    def columns(self, *, lists: bool) -> dict[str, str]:
        """Columns of an answer in a file, as `flat` makes them, with their types in Parquet."""
        kinds = (
            {"labels": "list<string>", "scores": "list<float>"} if lists else {"label": "string", "score": "float"}
        )
        return kinds | ({} if self.threshold is None else {"unknown": "bool", "unknown_score": "float"})


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
) -> Any:
    """The answer for one text with the probabilities `row`, (C,); see the module's docstring."""
    order = np.argsort(-decision.ranks_by(row), kind="stable")
    if top_k is None and decision.multilabel:
        given = decision.labels(row[None])[0]
        return [{"label": names[i], "score": float(row[i])} for i in order if given[i]]
    answers: list[dict[str, object]] = [{"label": names[i], "score": float(row[i])} for i in order[: top_k or 1]]
    if abstain is not None and row[order[0]] < abstain:
        answers = [{"label": None, "score": float(row[order[0]])}]
    return answers if top_k else answers[0]


def flat(answer: Any) -> dict[str, object]:
    """An answer as columns."""
    if isinstance(answer, dict):
        return answer
    several = {"labels": [one["label"] for one in answer], "scores": [one["score"] for one in answer]}
    return several | {name: answer[0][name] for name in ("unknown", "unknown_score") if answer and name in answer[0]}


def text_key(text_column: str, columns: Collection[str] = ()) -> str:
    """The name of the texts' column beside the answers' `columns`, different from theirs."""
    return text_column if text_column not in ("label", "score", "labels", "scores", *columns) else "text"


@contextmanager
def writer(path: Path, key: str, columns: Mapping[str, str]) -> Iterator[Write]:
    """A function that writes rows into a new file, whose ending says the format.

    Args:
        path: The file.
        key: Name of the texts' column.
        columns: The answers' columns, with their types.
    """
    ending = path.suffix.lower()
    if ending == ".parquet":
        with _parquet_writer(path, key, columns) as write:
            yield write
    elif ending == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            rows = csv.DictWriter(file, [key, *columns])
            rows.writeheader()
            yield lambda given: rows.writerows(map(_in_csv, given))
    else:
        with path.open("w", encoding="utf-8", newline="\n") as file:
            yield lambda rows: file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _in_csv(row: dict[str, Any]) -> dict[str, Any]:
    """A row with true and false as JSON has them."""
    return {name: str(value).lower() if isinstance(value, bool) else value for name, value in row.items()}


@contextmanager
def _parquet_writer(path: Path, key: str, columns: Mapping[str, str]) -> Iterator[Write]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"string": pa.string(), "float": pa.float32(), "bool": pa.bool_()}
    kinds |= {f"list<{name}>": pa.list_(kind) for name, kind in kinds.items()}
    schema = pa.schema({key: pa.string()} | {name: kinds[kind] for name, kind in columns.items()})
    waiting: list[dict[str, Any]] = []
    with pq.ParquetWriter(path, schema) as parquet:

        def write(rows: list[dict[str, Any]], least: int = PARQUET_ROWS) -> None:
            waiting.extend(rows)
            if len(waiting) >= least:
                parquet.write_table(pa.Table.from_pylist(waiting, schema))
                waiting.clear()

        yield write
        write([], least=1)
