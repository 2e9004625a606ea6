"""`fec audit`: what is worth knowing of a task's data, as tables to read and files to work with.

An audit folder holds

    audit.json         every figure
    labels.csv         rows of each label by split
    duplicates.csv     rows whose text stands in the data more than once, group by group
    label_words.csv    how often texts contain the names of labels
    label_issues.csv   rows whose label is doubtful, worst first, to be looked at by a person

Texts stand in the CSV files to the letter, so that they can be found in the data again.
"""

import csv
import importlib.util
import io
import json
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fusion_classifier.config import EncoderConfig
from fusion_classifier.encoders.identity import identify
from fusion_classifier.encoders.tokenization import token_lengths
from fusion_classifier.errors import FecError, UsageError
from fusion_classifier.features.arrays import Features, PooledFeatures
from fusion_classifier.features.extract import read_features
from fusion_classifier.runs.context import Workspace
from fusion_classifier.runs.features import extract_task
from fusion_classifier.support.files import user_path, write_atomic
from fusion_classifier.tasks.loaded import LoadedTask
from fusion_classifier.tasks.normalize import same_key
from fusion_classifier.tasks.quality import FEW_ROWS, DataQuality, data_quality, label_indices, measure_lengths

AUDIT_FILE = "audit.json"
ISSUES_FILE = "label_issues.csv"
# Never test: nothing may be chosen or mended by a look at its labels.
ISSUE_SPLITS = ("train", "valid")
FOLDS = 5
# scikit-learn's C is this through the number of rows: then one value suits small data and large (docs/decisions.md).
INVERSE_PENALTY = 20
MOST_ITERATIONS = 60
MOST_PAIRS = 20
WITHOUT_CLEANLAB = (
    "Label errors were not looked for: cleanlab is not installed (pip install 'llm-fusion-classifier[audit]')."
)


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

    `left_out`: labels with too few different texts to judge; `labels` names the columns of the probabilities.
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
        encoders: whose tokenizers count tokens and whose features find label errors; none leaves both out.
        out: the audit folder.
        work: store, device, progress.
        label_errors: whether to look for them; features that are missing are extracted.

    Returns:
        What `audit.json` holds.

    Raises:
        UsageError: `out` holds something else.
        FecError: see the messages.
    """
    _check_folder(out)
    notes = list(task.notes)
    with work.progress.bar("reading texts and labels", total=None):
        data = data_quality(task)
    tokens = {}
    for config in encoders:
        with work.progress.bar(f"counting tokens with {config.name}", total=None):
            tokens[config.name] = _token_figures(task, config, work)
    if not encoders:
        notes.append("Tokens were not counted: name the encoders by --encoder.")
    errors, reason = None, "Label errors were not looked for, as asked."
    if label_errors:
        errors, reason = find_label_errors(task, encoders, work)
    if errors is None:
        notes.append(reason)
    elif errors.left_out:
        notes.append(
            f"Label errors: rows with the labels {', '.join(errors.left_out)} were left out, which have fewer than "
            f"{FOLDS} different texts in {' and '.join(ISSUE_SPLITS)}."
        )
    figures = _figures(task, data, tokens, errors, notes)
    _write(out, figures, data, errors)
    return figures


def _check_folder(out: Path) -> None:
    """See that nothing but an earlier audit is in the folder, before minutes of work."""
    user_path(str(out), "out")
    try:
        others = sorted(path.name for path in out.iterdir() if not path.name.startswith("."))
    except FileNotFoundError:
        return
    except NotADirectoryError as error:
        raise UsageError(f"{out}: is a file, or in one; choose another --out") from error
    except OSError as error:
        raise FecError(f"{out}: can't be read ({error.strerror}); choose another --out") from error
    if others and AUDIT_FILE not in others:
        raise UsageError(f"{out}: is not an audit folder (it holds {others[0]}); choose another --out")


def _token_figures(task: LoadedTask, config: EncoderConfig, work: Workspace) -> dict[str, Any]:
    """Tokens a text by split, and how many texts are longer than the encoder takes."""
    identity = identify(config, work.device)
    texts = [text for part in task.splits.values() for text in part.texts]
    tokens = token_lengths(identity, texts)
    splits, start = {}, 0
    for name, part in task.splits.items():
        mine = tokens[start : start + len(part)]
        start += len(part)
        splits[name] = asdict(measure_lengths(mine.tolist())) | {"too_long": int((mine > config.max_length).sum())}
    return {"max_length": config.max_length, "splits": splits}


# --- label errors ------------------------------------------------------------------------------------------


def find_label_errors(
    task: LoadedTask, encoders: Sequence[EncoderConfig], work: Workspace
) -> tuple[LabelErrors | None, str]:
    """Rows of train and valid whose label is doubtful, or None and the reason why none were looked for.

    Confident learning: each text gets probabilities from a model that was not trained on it (nor on a copy of it);
    where another label is more probable than is usual for it, the given one is doubtful.

    Source: Northcutt, Jiang, Chuang: Confident Learning: Estimating Uncertainty in Dataset Labels, JAIR 70, 2021,
    https://arxiv.org/abs/1911.00068; as `cleanlab` has it.
    """
    if importlib.util.find_spec("cleanlab") is None:
        return None, WITHOUT_CLEANLAB
    if not encoders:
        return None, "Label errors were not looked for: name the encoders by --encoder."
    splits = [name for name in ISSUE_SPLITS if name in task.splits]
    rows = [(name, row) for name in splits for row in range(len(task.splits[name]))]
    given = [label_indices(task.splits[name].labels[row]) for name, row in rows]
    if any(len(labels) != 1 for labels in given):
        return None, "Label errors were not looked for: that is for tasks with one label a text."
    texts = [task.splits[name].texts[row] for name, row in rows]
    labels = np.array([one for (one,) in given], dtype=np.int64)
    groups = np.unique([same_key(text) for text in texts], return_inverse=True)[1] if texts else labels
    judged = [i for i in range(len(task.labels)) if len(set(groups[labels == i].tolist())) >= FOLDS]
    left_out = tuple(task.labels[i] for i in sorted(set(labels.tolist()) - set(judged)))
    if len(judged) < 2:
        return None, (
            f"Label errors were not looked for: that takes two labels with {FOLDS} different texts or more in "
            f"{' and '.join(ISSUE_SPLITS)}."
        )
    chosen = np.flatnonzero(np.isin(labels, judged))
    extract_task(task, splits, encoders, work)
    identities = [identify(config, work.device) for config in encoders]
    features = read_features([texts[i] for i in chosen], identities, work.store)
    matrix = np.concatenate([pooled(one) for one in features.values()], axis=1)
    number = np.searchsorted(judged, labels[chosen])  # 0 to K − 1
    with work.progress.bar(f"predicting {len(chosen):,} texts from the others", total=None):
        probabilities = out_of_fold(matrix, number, groups[chosen])
        doubtful, quality = _doubtful(number, probabilities)
    names = tuple(task.labels[i] for i in judged)
    issues = []
    for i in doubtful:
        name, row = rows[chosen[i]]
        issues.append(
            LabelIssue(
                name,
                row,
                texts[chosen[i]],
                names[number[i]],
                names[probabilities[i].argmax()],
                float(quality[i]),
                tuple(probabilities[i].tolist()),
            )
        )
    accuracy = float((probabilities.argmax(1) == number).mean())
    return LabelErrors(len(chosen), accuracy, names, left_out, tuple(issues)), ""


def pooled(features: Features) -> np.ndarray:
    """One vector a text: (N, D), float32. Of token states, their mean."""
    if isinstance(features, PooledFeatures):
        values = features.values
    else:
        starts, lengths = features.offsets[:-1], features.lengths
        values = np.zeros((len(features), *features.values.shape[1:]), dtype=np.float32)
        full = lengths > 0  # reduceat would give an empty text the state of the next
        if full.any():
            sums = np.add.reduceat(features.values, starts[full], axis=0, dtype=np.float32)
            values[full] = sums / lengths[full][:, None, None]
    return np.ascontiguousarray(values.reshape(len(features), -1), dtype=np.float32)


def out_of_fold(matrix: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Probabilities (N, K) of each row by logistic regression on the four fifths of the data without it.

    Args:
        matrix: (N, D).
        labels: (N,), 0 to K − 1, all of them there.
        groups: (N,); rows of one group (copies of a text) are held out together: else a wrong label would be
            learned by heart from the copy.
    """
    strength = INVERSE_PENALTY / len(matrix)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=MOST_ITERATIONS))
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        # Stopping early is as good a regularizer as any; of rare labels `find_label_errors` takes care.
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        found: np.ndarray = cross_val_predict(model, matrix, labels, groups=groups, cv=folds, method="predict_proba")
    return found


def _doubtful(labels: np.ndarray, probabilities: np.ndarray) -> tuple[list[int], np.ndarray]:
    """Rows with a doubtful label, worst first, and the quality of every row's label, (N,)."""
    from cleanlab.filter import find_label_issues  # noqa: PLC0415 - an extra, and slow to import
    from cleanlab.rank import get_label_quality_scores  # noqa: PLC0415

    # In float64, rows that sum to 1: cleanlab refuses others.
    exact = probabilities.astype(np.float64)
    exact /= exact.sum(1, keepdims=True)
    mask = find_label_issues(labels, exact, n_jobs=1)
    quality = get_label_quality_scores(labels, exact, method="self_confidence")
    rows = np.flatnonzero(mask)
    return rows[np.argsort(quality[rows], kind="stable")].tolist(), quality


# --- what is written ---------------------------------------------------------------------------------------


def _figures(
    task: LoadedTask, data: DataQuality, tokens: dict[str, Any], errors: LabelErrors | None, notes: Sequence[str]
) -> dict[str, Any]:
    duplicates = asdict(data.duplicates)
    duplicates["rows_in_file"] = len(duplicates.pop("copies"))
    return {
        "task": task.name,
        "source": task.source,
        "licence": task.licence,
        "splits": {name: asdict(figures) for name, figures in data.splits.items()},
        "tokens": tokens,
        "duplicates": duplicates,
        "labels": asdict(data.labels) | {"few_rows": FEW_ROWS},
        "label_words": asdict(data.label_words),
        "label_errors": None if errors is None else _error_figures(errors, list(tokens)),
        "notes": list(notes),
    }


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


def _write(out: Path, figures: dict[str, Any], data: DataQuality, errors: LabelErrors | None) -> None:
    splits = list(figures["splits"])
    # First: it makes the folder an audit's, so that one that was stopped here can be repeated.
    write_atomic(out / AUDIT_FILE, json.dumps(figures, indent=2, ensure_ascii=False) + "\n")
    _write_csv(
        out / "labels.csv",
        ["label", *splits],
        ([label, *by_split.values()] for label, by_split in data.labels.rows.items()),
    )
    _write_csv(
        out / "duplicates.csv",
        ["group", "exact", "labels_differ", "split", "row", "label", "text"],
        (
            [c.group, _yes(c.exact), _yes(c.labels_differ), c.split, c.row, ", ".join(c.labels), c.text]
            for c in data.duplicates.copies
        ),
    )
    _write_csv(
        out / "label_words.csv",
        ["label", "rows", "rows_with_its_name", "texts_with_its_name"],
        ([word.label, word.rows, word.own, word.found] for word in data.label_words.by_label),
    )
    if errors is not None:
        _write_csv(
            out / ISSUES_FILE,
            ["split", "row", "text", "given", "suggested", "quality", *(f"p({label})" for label in errors.labels)],
            (
                [i.split, i.row, i.text, i.given, i.suggested, *(round(p, 4) for p in (i.quality, *i.probabilities))]
                for i in errors.issues
            ),
        )
    else:
        try:
            (out / ISSUES_FILE).unlink(missing_ok=True)  # that of an earlier audit is not of this one
        except OSError as error:
            raise FecError(f"{out / ISSUES_FILE}: can't be removed ({error.strerror})") from error


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A CSV file in one step; every cell that is not a number stands in quotes."""
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_atomic(path, text.getvalue())
