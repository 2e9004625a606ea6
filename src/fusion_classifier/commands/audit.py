"""`fec audit`: what to know about a task's data before training on it.

An audit folder contains

    audit.json         every figure
    labels.csv         rows of each label by split
    duplicates.csv     rows whose text is duplicated, group by group
    label_words.csv    how often texts contain the names of labels
    label_issues.csv   rows whose label is doubtful, worst first, to be looked at by a person

Texts are unchanged in the CSV files, so that they can be found in the data again.
"""

import csv
import importlib.util
import io
import json
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fusion_classifier.config import EncoderConfig
from fusion_classifier.encoders.identity import identify
from fusion_classifier.encoders.tokenization import token_lengths
from fusion_classifier.errors import FecError, UsageError
from fusion_classifier.features.arrays import Features, TokenStates
from fusion_classifier.features.extract import read_features
from fusion_classifier.runs.context import Workspace
from fusion_classifier.runs.features import extract_task
from fusion_classifier.support.files import user_path, write_atomic
from fusion_classifier.tasks.loaded import LoadedTask
from fusion_classifier.tasks.normalize import same_key
from fusion_classifier.tasks.quality import Copy, data_quality, label_indices, measure_lengths

AUDIT_FILE = "audit.json"
ISSUES_FILE = "label_issues.csv"
# Never test: nothing may be chosen or fixed by looking at its labels.
ISSUE_SPLITS = ("train", "valid")
FOLDS = 5
# scikit-learn's C is this divided by the number of rows: one value suits small and large data (docs/decisions.md).
INVERSE_PENALTY = 20
MOST_ITERATIONS = 60
MOST_PAIRS = 20
BLOCK_TEXTS = 256  # averaged at once


class NotJudgedError(UsageError):
    """Label errors can't be looked for here."""


@dataclass(frozen=True)
class LabelIssue:
    """A row whose label is doubtful. `quality`: probability of the given label; `probabilities` (C,)."""

    split: str
    row: int
    text: str
    given: str
    suggested: str
    quality: float
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class LabelErrors:
    """Doubtful labels among `rows`, worst first; `accuracy` is that of the out-of-fold predictions.

    `labels` names the columns of the probabilities. `left_out`: labels with too few different texts to judge.
    """

    rows: int
    accuracy: float
    labels: tuple[str, ...]
    left_out: tuple[str, ...]
    issues: tuple[LabelIssue, ...]


def audit(
    task: LoadedTask, encoders: Sequence[EncoderConfig], out: Path, work: Workspace, *, label_errors: bool = True
) -> dict[str, Any]:
    """Audit a task and write the folder.

    Args:
        task: texts and labels.
        encoders: their tokenizers count tokens, and label errors are found with their features. May be empty.
        out: audit folder.
        work: store, device, progress.
        label_errors: whether to look for label errors; missing features are extracted. Default: True.

    Returns:
        The content of `audit.json`.

    Raises:
        UsageError: `out` is a folder of something else.
    """
    _check_folder(out)
    notes = list(task.notes)
    with work.progress.bar("reading texts and labels", total=None):
        quality, copies = data_quality(task)
    tokens = {}
    for config in encoders:
        with work.progress.bar(f"counting tokens with {config.name}", total=None):
            tokens[config.name] = _token_figures(task, config, work)
    if not encoders:
        notes.append("Tokens were not counted: `encoders` not given.")
    errors = None
    try:
        if not label_errors:
            raise NotJudgedError("it was not asked for")
        errors = find_label_errors(task, encoders, work)
    except NotJudgedError as error:
        notes.append(f"Label errors were not looked for: {error}.")
    if errors is not None and errors.left_out:
        notes.append(
            f"Label errors: rows with the labels {', '.join(errors.left_out)} were left out, which have fewer than "
            f"{FOLDS} different texts in {' and '.join(ISSUE_SPLITS)}."
        )
    figures = {
        "task": task.name,
        "source": task.source,
        "licence": task.licence,
        "splits": quality.pop("splits"),
        "tokens": tokens,
        **quality,
        "label_errors": None if errors is None else _error_figures(errors, list(tokens)),
        "notes": notes,
    }
    figures["duplicates"]["rows_in_file"] = len(copies)
    _write(out, figures, copies, errors)
    return figures


def _check_folder(out: Path) -> None:
    """Check that the folder contains nothing but an earlier audit, before minutes of work."""
    user_path(str(out), "out")
    try:
        others = sorted(path.name for path in out.iterdir() if not path.name.startswith("."))
    except FileNotFoundError:
        return
    except NotADirectoryError as error:
        raise UsageError(f"{out}: is a file, or in one; choose another `out`") from error
    except OSError as error:
        raise FecError(f"{out}: can't be read ({error.strerror}); choose another `out`") from error
    if others and AUDIT_FILE not in others:
        raise UsageError(f"{out}: is not an audit folder (it contains {others[0]}); choose another `out`")


def _token_figures(task: LoadedTask, config: EncoderConfig, work: Workspace) -> dict[str, Any]:
    """Tokens per text by split, and the number of texts longer than the encoder's limit."""
    parts = task.splits.values()
    counts = token_lengths(identify(config, work.device), [text for part in parts for text in part.texts])
    by_split = np.split(counts, np.cumsum([len(part) for part in parts])[:-1])
    splits = {
        name: measure_lengths(found.tolist()) | {"too_long": int((found > config.max_length).sum())}
        for name, found in zip(task.splits, by_split, strict=True)
    }
    return {"max_length": config.max_length, "splits": splits}


# --- label errors ------------------------------------------------------------------------------------------


def find_label_errors(task: LoadedTask, encoders: Sequence[EncoderConfig], work: Workspace) -> LabelErrors:
    """Rows of train and valid whose label is doubtful.

    Confident learning: each text gets probabilities from a model that was not trained on it or on a copy of it; where
    another label is more probable than usual for it, the given one is doubtful.

    Source: Northcutt, Jiang, Chuang: Confident Learning: Estimating Uncertainty in Dataset Labels, JAIR 70, 2021,
    https://arxiv.org/abs/1911.00068; as implemented by `cleanlab`.

    Raises:
        NotJudgedError: cleanlab is not installed, or encoders or rows are missing.
    """
    if importlib.util.find_spec("cleanlab") is None:
        raise NotJudgedError("cleanlab is not installed (pip install 'llm-fusion-classifier[audit]')")
    if not encoders:
        raise NotJudgedError("`encoders` not given")
    splits = [name for name in ISSUE_SPLITS if name in task.splits]
    rows = [(name, row) for name in splits for row in range(len(task.splits[name]))]
    given = [label_indices(task.splits[name].labels[row]) for name, row in rows]
    if any(len(labels) != 1 for labels in given):
        raise NotJudgedError("that is for tasks with one label per text")
    texts = [task.splits[name].texts[row] for name, row in rows]
    labels = np.array([one for (one,) in given], dtype=np.int64)
    groups = np.unique([same_key(text) for text in texts], return_inverse=True)[1] if texts else labels
    judged = [i for i in range(len(task.labels)) if len(set(groups[labels == i].tolist())) >= FOLDS]
    if len(judged) < 2:
        raise NotJudgedError(
            f"that takes two labels with {FOLDS} different texts or more in {' and '.join(ISSUE_SPLITS)}"
        )
    left_out = tuple(task.labels[i] for i in sorted(set(labels.tolist()) - set(judged)))
    names = tuple(task.labels[i] for i in judged)
    chosen = np.flatnonzero(np.isin(labels, judged))
    extract_task(task, splits, encoders, work)
    identities = [identify(config, work.device) for config in encoders]
    features = read_features([texts[i] for i in chosen], identities, work.store)
    matrix = np.concatenate([pooled(one) for one in features.values()], axis=1)
    number = np.searchsorted(judged, labels[chosen])  # 0 to K − 1
    with work.progress.bar(f"predicting {len(chosen):,} texts from the others", total=None):
        probabilities = out_of_fold(matrix, number, groups[chosen])
        doubtful, quality = _doubtful(number, probabilities)
    issues = []
    for i in doubtful:
        (name, row), suggested = rows[chosen[i]], names[probabilities[i].argmax()]
        found = tuple(probabilities[i].tolist())
        issues.append(LabelIssue(name, row, texts[chosen[i]], names[number[i]], suggested, float(quality[i]), found))
    accuracy = float((probabilities.argmax(1) == number).mean())
    return LabelErrors(len(chosen), accuracy, names, left_out, tuple(issues))


def pooled(features: Features) -> np.ndarray:
    """One vector per text (N, D), float32: of token states their mean."""
    blocks = np.array_split(np.arange(len(features)), len(features) // BLOCK_TEXTS + 1)
    batches = (features.batch(rows) for rows in blocks)
    vectors = [batch.mean() if isinstance(batch, TokenStates) else batch.float() for batch in batches]
    return np.concatenate([vector.flatten(1).numpy() for vector in vectors])


def out_of_fold(matrix: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Probabilities (N, K) of each row by logistic regression on the other folds.

    Args:
        matrix: (N, D).
        labels: (N,), 0 to K − 1, each of them at least once.
        groups: (N,); rows of one group (copies of a text) are in one fold: else a wrong label would be learned by
            heart from the copy.
    """
    # Slow to import.
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict  # noqa: PLC0415
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415

    strength = INVERSE_PENALTY / len(matrix)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=MOST_ITERATIONS))
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        # Of iterations (stopping early regularizes, too) and of rare labels (`find_label_errors` leaves them out).
        warnings.simplefilter("ignore")
        found: np.ndarray = cross_val_predict(model, matrix, labels, groups=groups, cv=folds, method="predict_proba")
    return found


def _doubtful(labels: np.ndarray, probabilities: np.ndarray) -> tuple[list[int], np.ndarray]:
    """Rows with a doubtful label, worst first, and the quality of every row's label, (N,)."""
    from cleanlab.filter import find_label_issues  # noqa: PLC0415 - an extra, and slow to import
    from cleanlab.rank import get_label_quality_scores  # noqa: PLC0415

    # In float64, rows that sum to 1: cleanlab refuses others.
    exact = probabilities.astype(np.float64)
    exact /= exact.sum(1, keepdims=True)
    rows = np.flatnonzero(find_label_issues(labels, exact, n_jobs=1))
    quality = get_label_quality_scores(labels, exact, method="self_confidence")
    return rows[np.argsort(quality[rows], kind="stable")].tolist(), quality


# --- what is written ---------------------------------------------------------------------------------------


def _error_figures(errors: LabelErrors, encoders: list[str]) -> dict[str, Any]:
    given = Counter(issue.given for issue in errors.issues)
    pairs = Counter((issue.given, issue.suggested) for issue in errors.issues)
    return {
        "rows": errors.rows,
        "splits": list(ISSUE_SPLITS),
        "encoders": encoders,
        "folds": FOLDS,
        "out_of_fold_accuracy": errors.accuracy,
        "left_out": list(errors.left_out),
        "issues": len(errors.issues),
        "by_label": {label: given[label] for label in errors.labels},
        "pairs": [{"given": a, "suggested": b, "rows": n} for (a, b), n in pairs.most_common(MOST_PAIRS)],
    }


def _write(out: Path, figures: dict[str, Any], copies: list[Copy], errors: LabelErrors | None) -> None:
    # First: it makes the folder an audit's, so that an audit that was stopped here can be repeated.
    write_atomic(out / AUDIT_FILE, json.dumps(figures, indent=2, ensure_ascii=False) + "\n")
    _write_csv(
        out / "labels.csv",
        ["label", *figures["splits"]],
        ([label, *by_split.values()] for label, by_split in figures["labels"]["rows"].items()),
    )
    _write_csv(
        out / "duplicates.csv",
        ["group", "exact", "labels_differ", "split", "row", "label", "text"],
        (
            [c.group, _yes(c.exact), _yes(c.labels_differ), c.split, c.row, ", ".join(c.labels), c.text]
            for c in copies
        ),
    )
    _write_csv(
        out / "label_words.csv",
        ["label", "rows", "rows_with_its_name", "texts_with_its_name"],
        (list(word.values()) for word in figures["label_words"]["by_label"]),
    )
    if errors is None:
        (out / ISSUES_FILE).unlink(missing_ok=True)  # that of an earlier audit
        return
    _write_csv(
        out / ISSUES_FILE,
        ["split", "row", "text", "given", "suggested", "quality", *(f"p({label})" for label in errors.labels)],
        (
            [i.split, i.row, i.text, i.given, i.suggested, *(round(p, 4) for p in (i.quality, *i.probabilities))]
            for i in errors.issues
        ),
    )


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A CSV file; every cell that is not a number is quoted."""
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_atomic(path, text.getvalue())
