"""Predictions as lines of JSON, or as a file beside the texts.

Lines have the output format of transformers' text-classification pipeline: without `top_k` one object a text,
`{"label": …, "score": …}`; with it a list of the K best. A multi-label model answers with the list of all labels it
gives. Below the confidence `abstain` the label is null. A file has the text, `label` and `score`, or lists of these.

Texts are read, encoded and written a block at a time, so that memory does not grow with their number.
"""

import csv
import json
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import tee
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fusion_classifier.classifier.estimator import FusionClassifier
from fusion_classifier.classifier.explanation import Explanation
from fusion_classifier.classifier.folder import built_in_models
from fusion_classifier.cluster.pool import RayEngine, prepare
from fusion_classifier.config import DEFAULT_MODEL, Device
from fusion_classifier.errors import DataError, UsageError
from fusion_classifier.support.files import atomic_file
from fusion_classifier.support.hub import is_hub_id
from fusion_classifier.support.progress import Progress
from fusion_classifier.tasks.readers import checked_text, texts_of
from fusion_classifier.training.decision import Decision

OUT_ENDINGS = (".csv", ".jsonl", ".parquet")
PARQUET_ROWS = 16384  # of a row group


def model_and_texts(words: Sequence[str], model: str | None, *, has_file: bool) -> tuple[str, list[str]]:
    """The model and the texts among the words of a command line.

    Args:
        words: MODEL and texts, or texts for the model that comes with the package.
        model: given by name; then all words are texts.
        has_file: whether texts come from a file, too.

    Raises:
        UsageError: the first word is no model, and too much like one to be taken for a text.
    """
    if model is not None:
        return model, list(words)
    if not words:
        return DEFAULT_MODEL, []
    first, rest = words[0], list(words[1:])
    if first in built_in_models() or _is_there(first) or (is_hub_id(first) and (rest or has_file)):
        return first, rest
    if len(first.split()) == 1 and (rest or has_file or "/" in first):
        raise UsageError(
            f"{first[:60]}: no such model folder, run folder or model of the package "
            f"({', '.join(built_in_models())}); "
            f"to classify it as a text say --model {DEFAULT_MODEL}"
        )
    return DEFAULT_MODEL, list(words)


def _is_there(word: str) -> bool:
    """Whether a word is a path to something; a text may be too long for a path, or begin with ~."""
    try:
        return bool(word) and Path(word).expanduser().exists()
    except (OSError, RuntimeError, ValueError):
        return False


def predict_rows(
    model: str | Path,
    texts: Sequence[str],
    abstain: float | None,
    encoder_paths: Mapping[str, str],
    device: Device,
) -> Iterator[tuple[str, list[tuple[str, float, bool]]]]:
    """For a person: each text with all labels by falling probability, and whether the label is given.

    Raises:
        DataError, FecError: see the messages.
    """
    _check_given(texts)
    classifier = _load(model, abstain, encoder_paths, device)
    names, decision = classifier.config_.labels, classifier.config_.decision
    for text, row in zip(texts, classifier.predict_proba(texts), strict=True):
        order = np.argsort(-row, kind="stable")
        if decision.multilabel:
            given = decision.labels(row[None])[0].astype(bool)
        else:
            given = np.arange(len(row)) == order[0]
            given &= abstain is None or row.max() >= abstain
        yield text, [(names[i], float(row[i]), bool(given[i])) for i in order]


def explain_text(
    model: str | Path,
    texts: Sequence[str],
    label: str | None,
    most_spans: int,
    encoder_paths: Mapping[str, str],
    device: Device,
) -> Explanation:
    """Which words of the one text carry a label, the most probable unless given.

    Raises:
        UsageError: not one text, or a label that the model does not have.
        DataError, FecError: see the messages.
    """
    if len(texts) != 1:
        raise UsageError(f"{len(texts)} texts to explain: give one, in quotation marks")
    _check_given(texts)
    return _load(model, None, encoder_paths, device).explain(texts[0], label, most_spans=most_spans)


def _check_given(texts: Sequence[str]) -> None:
    for position, text in enumerate(texts, start=1):
        if not text.strip():
            raise DataError(f"text {position} is empty")


def predict_lines(
    model: str | Path,
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
    _check_given(texts)
    from_file: Iterable[str] = []
    if file is not None:
        from_file = _checked_file(file, text_column)[1]
    classifier = _load(model, abstain, encoder_paths, device)
    names, decision = classifier.config_.labels, classifier.config_.decision

    def everything() -> Iterator[str]:
        yield from texts
        yield from from_file

    for probabilities in classifier.predict_proba_stream(everything()):
        for row in probabilities:
            yield json.dumps(as_pipeline(row, names, decision, top_k, abstain), ensure_ascii=False)


def predict_to_file(
    model: str | Path,
    file: Path,
    out: Path,
    text_column: str,
    top_k: int | None,
    abstain: float | None,
    encoder_paths: Mapping[str, str],
    device: Device,
    progress: Progress,
    ray: RayEngine | None = None,
) -> int:
    """The texts of a file with their predictions, as CSV, JSONL or Parquet; how many.

    The file is there whole or not at all; one that was there before is replaced.

    Raises:
        UsageError: an ending that can't be written, or lists of labels as CSV.
        DataError, FecError: see the messages.
    """
    if out.suffix.lower() not in OUT_ENDINGS:
        raise UsageError(f"--out {out}: the ending must be one of {', '.join(OUT_ENDINGS)}")
    if out.is_dir():
        raise UsageError(f"--out {out}: is a folder; give a file")
    if out.exists() and file.exists() and out.samefile(file):
        raise UsageError(f"--out {out}: is the file with the texts; choose another name")
    count, texts = _checked_file(file, text_column)
    classifier = _load(model, abstain, encoder_paths, device)
    names, decision = classifier.config_.labels, classifier.config_.decision
    lists = top_k is not None or decision.multilabel
    if lists and out.suffix.lower() == ".csv":
        raise UsageError(f"--out {out}: several labels a text don't fit into a CSV; end it in .jsonl or .parquet")
    key = text_key(text_column)
    done = 0
    if ray is None:
        kept, encoded = tee(texts)  # never further apart than a block
        stream = classifier.predict_proba_stream(encoded)
    else:
        if count is None:
            raise UsageError("--engine ray: workers can't read this process's standard input; give a file")
        kept, stream = texts, _predict_proba_ray(model, file, text_column, encoder_paths, ray)
    # Closed when writing fails, too: Ray's workers must not wait for a reader that is gone.
    with closing(stream), progress.bar("predicting", total=count) as bar, atomic_file(out) as temporary:
        with writer(temporary, key, lists=lists) as write:
            for probabilities in stream:
                answers = [as_pipeline(row, names, decision, top_k, abstain) for row in probabilities]
                write([{key: next(kept)} | flat(answer) for answer in answers])
                done += len(answers)
                bar.advance(len(answers))
        bar.finish()
    return done


def _predict_proba_ray(
    model: str | Path, file: Path, text_column: str, encoder_paths: Mapping[str, str], ray: RayEngine
) -> Generator[np.ndarray]:
    prepare()
    from fusion_classifier.cluster.predict import predict_proba_ray  # noqa: PLC0415 - needs an extra

    return predict_proba_ray(model, file, text_column, encoder_paths, ray)


def _load(
    model: str | Path, abstain: float | None, encoder_paths: Mapping[str, str], device: Device
) -> FusionClassifier:
    classifier = FusionClassifier.from_pretrained(model, device=device, encoder_paths=encoder_paths)
    if classifier.config_.decision.multilabel and abstain is not None:
        raise UsageError(
            f"--abstain: the model in {model} may give no label at all, by a threshold for each; leave it out"
        )
    return classifier


def text_key(text_column: str) -> str:
    """What the texts' column is called beside the answers: it must not be taken for one of theirs."""
    return text_column if text_column not in ("label", "score", "labels", "scores") else "text"


def flat(answer: Any) -> dict[str, object]:
    """An answer as columns."""
    if isinstance(answer, dict):
        return answer
    return {"labels": [one["label"] for one in answer], "scores": [one["score"] for one in answer]}


Write = Callable[[list[dict[str, Any]]], None]


@contextmanager
def writer(path: Path, key: str, *, lists: bool) -> Iterator[Write]:
    """Writes rows into a new file by its ending."""
    if path.suffix.lower() == ".parquet":
        types: tuple[Any, Any] = (pa.string(), pa.float32())
        names = ("labels", "scores") if lists else ("label", "score")
        columns = [(name, pa.list_(kind) if lists else kind) for name, kind in zip(names, types, strict=True)]
        schema = pa.schema([(key, pa.string()), *columns])
        waiting: list[dict[str, Any]] = []
        with pq.ParquetWriter(path, schema) as parquet:

            def to_parquet(rows: list[dict[str, Any]]) -> None:
                waiting.extend(rows)
                if len(waiting) >= PARQUET_ROWS:
                    parquet.write_table(pa.Table.from_pylist(waiting, schema))
                    waiting.clear()

            yield to_parquet
            if waiting:
                parquet.write_table(pa.Table.from_pylist(waiting, schema))
    elif path.suffix.lower() == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, [key, "label", "score"])
            writer.writeheader()
            yield writer.writerows
    else:
        with path.open("w", encoding="utf-8", newline="\n") as file:
            yield lambda rows: file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


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


def _checked_file(path: Path, text_column: str) -> tuple[int | None, Iterator[str]]:
    """How many texts a file has, None of a stream, and the texts one by one.

    A file is read once to its end first, so that a fault in it is reported before the models are loaded.
    """
    if str(path) == "-":
        return None, _stream_lines()
    return sum(1 for _ in texts_of(path, text_column)), texts_of(path, text_column)


def _stream_lines() -> Iterator[str]:
    for number, line in enumerate(sys.stdin, start=1):
        yield checked_text(line.rstrip("\n"), f"standard input, line {number}")
