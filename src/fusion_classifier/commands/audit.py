"""`fec audit`: checks a task's data before training.

An audit folder contains

    audit.json         every figure
    labels.csv         number of rows per label and split
    duplicates.csv     rows with duplicate texts, in groups
    label_words.csv    how often texts contain the names of labels
    left_out.csv       rows without a text or label, and the problem
    label_issues.csv   rows with a doubtful label, worst first, for manual review

Texts are unchanged in the CSV files, so that they can be found in the data.
"""

import csv
import importlib.util
import io
import json
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from fusion_classifier.classifier.tuned import tuned_on
from fusion_classifier.config import EncoderConfig
from fusion_classifier.encoders.identity import identify
from fusion_classifier.encoders.tokenization import token_lengths
from fusion_classifier.errors import UsageError
from fusion_classifier.features.arrays import Features, TokenStates
from fusion_classifier.features.extract import read_features
from fusion_classifier.fusion.folds import FOLDS
from fusion_classifier.runs.context import RunContext
from fusion_classifier.runs.features import extract_task
from fusion_classifier.support.files import atomic_write, user_path
from fusion_classifier.support.text import counted
from fusion_classifier.tasks.doubts import data_doubts
from fusion_classifier.tasks.loaded import LeftOut, LoadedTask, label_indices
from fusion_classifier.tasks.normalize import text_groups
from fusion_classifier.tasks.quality import data_quality, measure_lengths

AUDIT_FILE = "audit.json"
ISSUES_FILE = "label_issues.csv"
PLACE = ("file", "row", "line")  # columns
# Never test: its labels must not be used for any choice or fix.
ISSUE_SPLITS = ("train", "valid")
# Divided by the number of rows, this is scikit-learn's C: one value suits small and large data (docs/decisions.md).
INVERSE_PENALTY = 20
MAX_ITERATIONS = 60
MAX_PAIRS = 20
BLOCK_TEXTS = 256  # averaged in one batch


class NotCheckedError(UsageError):
    """The task can't be searched for label errors."""


def audit(
    task: LoadedTask, encoders: Sequence[EncoderConfig], out: Path, work: RunContext, *, label_errors: bool = True
) -> dict[str, Any]:
    """Audit a task and write the audit folder; returns `audit.json`. Without `encoders` tokens are not counted."""
    _check_folder(out)
    if task.cross_validated:  # the rows of validation are those of train
        task = replace(task, splits={name: part for name, part in task.splits.items() if name != "valid"})
    notes = [*task.notes, *(f"{doubt}." for doubt in data_doubts(task))]
    with work.progress.bar("reading texts and labels", total=None):
        quality, copies = data_quality(task)
    tokens = {}
    for config in encoders:
        with work.progress.bar(f"counting tokens with {config.name}", total=None):
            tokens[config.name] = _token_figures(task, config, work)
    if not encoders:
        notes.append("Tokens were not counted: `encoders` not given.")
    label_figures, issues = None, None
    try:
        if not label_errors:
            raise NotCheckedError("not requested")
        label_figures, issues = find_label_errors(task, encoders, work)
        if label_figures["left_out"]:
            notes.append(
                f"Label errors: rows with the labels {', '.join(label_figures['left_out'])} were not checked, "
                f"because they have fewer than {FOLDS} different texts in {' and '.join(label_figures['splits'])}."
            )
    except NotCheckedError as error:
        notes.append(f"Label errors were not searched for: {error}.")
    figures = {
        "task": task.name,
        "source": task.source,
        "licence": task.licence,
        "splits": quality.pop("splits"),
        "tokens": tokens,
        **quality,
        "label_errors": label_figures,
        "left_out": len(task.left_out),
        "notes": notes,
    }
    figures["duplicates"]["rows_in_file"] = len(copies)
    _write(out, figures, copies, issues, task.left_out)
    return figures


def _check_folder(out: Path) -> None:
    """Check that the folder is empty or an earlier audit, before minutes of work."""
    user_path(str(out), "out")
    if out.is_file() or any(path.is_file() for path in out.parents):
        raise UsageError(f"{out} is a file, or in one; choose another `out`")
    others = sorted(path.name for path in out.iterdir() if path.name[0] != ".") if out.is_dir() else []
    if others and AUDIT_FILE not in others:
        raise UsageError(f"{out} is not an audit folder (it contains {others[0]}); choose another `out`")


def _token_figures(task: LoadedTask, config: EncoderConfig, work: RunContext) -> dict[str, Any]:
    """Tokens per text by split, and the number of texts longer than the encoder's limit."""
    texts = [text for part in task.splits.values() for text in part.texts]
    counts, splits = iter(token_lengths(identify(config, work.device), texts).tolist()), {}
    for name, part in task.splits.items():
        lengths = list(islice(counts, len(part)))
        splits[name] = measure_lengths(lengths) | {
            "too_long": sum(n > config.max_length for n in lengths if config.long == "cut")
        }
    return {"max_length": config.max_length, "splits": splits}


# --- label errors ------------------------------------------------------------------------------------------


def find_label_errors(
    task: LoadedTask, encoders: Sequence[EncoderConfig], work: RunContext
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Find rows of train and valid with a doubtful label.

    Confident learning: each text gets probabilities from a model that was not trained on it or on a copy; if another
    label is more probable than usual, the given one is doubtful.

    Source: Northcutt, Jiang, Chuang: Confident Learning: Estimating Uncertainty in Dataset Labels, JAIR 70, 2021,
    https://arxiv.org/abs/1911.00068; as implemented by `cleanlab`.

    Returns:
        Figures for `audit.json`, and the rows of `label_issues.csv`, worst first; `quality` is the probability of the
        given label. Labels with too few distinct texts are `left_out`.

    Raises:
        NotCheckedError: cleanlab is not installed, or there are no encoders or too few rows.
    """
    if importlib.util.find_spec("cleanlab") is None:
        raise NotCheckedError("cleanlab is not installed (pip install 'llm-fusion-classifier[audit]')")
    if not encoders:
        raise NotCheckedError("`encoders` not given")
    splits = [name for name in ISSUE_SPLITS if name in task.splits]
    rows = [(name, row) for name in splits for row in range(len(task.splits[name]))]
    given = [label_indices(task.splits[name].labels[row]) for name, row in rows]
    if any(len(labels) != 1 for labels in given):
        raise NotCheckedError("only available for tasks with one label per text")
    texts = [task.splits[name].texts[row] for name, row in rows]
    labels = np.array([one for (one,) in given], dtype=np.int64)
    groups = text_groups(texts)
    checked = [i for i in range(len(task.labels)) if len(set(groups[labels == i].tolist())) >= FOLDS]
    if len(checked) < 2:
        raise NotCheckedError(
            f"two labels with at least {FOLDS} different texts are required in {' and '.join(splits)}"
        )
    names = [task.labels[i] for i in checked]
    chosen = np.flatnonzero(np.isin(labels, checked))
    extract_task(task, splits, encoders, work)
    identities = [identify(config, work.device) for config in encoders]
    checked_texts = [texts[i] for i in chosen]
    for warning in tuned_on(identities, checked_texts, "texts whose labels are checked here"):
        work.say(f"Warning: {warning}")
    features = read_features(checked_texts, identities, work.store)
    matrix = np.concatenate([pooled(one) for one in features.values()], axis=1)
    number = np.searchsorted(checked, labels[chosen])  # 0 to K − 1
    with work.progress.bar(f"predicting {counted(len(chosen), 'text')} from the others", total=None):
        probabilities = out_of_fold(matrix, number, groups[chosen])
        doubtful, quality = _doubtful(number, probabilities)
    issues: list[dict[str, Any]] = []
    for i in doubtful:
        split, row = rows[chosen[i]]
        place = asdict(task.splits[split].places[row])
        issue = {"split": split, **place, "text": texts[chosen[i]], "given": names[number[i]]}
        issues.append(issue | _suggestion(names, probabilities[i], float(quality[i])))
    by_label = Counter(issue["given"] for issue in issues)
    pairs = Counter((issue["given"], issue["suggested"]) for issue in issues)
    figures = {
        "rows": len(chosen),
        "splits": splits,
        "encoders": [config.name for config in encoders],
        "folds": FOLDS,
        "out_of_fold_accuracy": float((probabilities.argmax(1) == number).mean()),
        "left_out": [task.labels[i] for i in sorted(set(labels.tolist()) - set(checked))],
        "issues": len(issues),
        "by_label": {label: by_label[label] for label in names},
        "pairs": [{"given": a, "suggested": b, "rows": n} for (a, b), n in pairs.most_common(MAX_PAIRS)],
    }
    return figures, issues


def _suggestion(names: Sequence[str], probabilities: np.ndarray, quality: float) -> dict[str, Any]:
    """The most probable label of a doubtful row, the probability of its given label, and those of all labels."""
    suggestion: dict[str, Any] = {"suggested": names[int(probabilities.argmax())], "quality": quality}
    return suggestion | {f"p({label})": p for label, p in zip(names, probabilities.tolist(), strict=True)}


def pooled(features: Features) -> np.ndarray:
    """One vector per text (N, D), float32; token states are averaged."""
    blocks = np.array_split(np.arange(len(features)), len(features) // BLOCK_TEXTS + 1)
    batches = (features.batch(rows) for rows in blocks)
    vectors = [batch.mean() if isinstance(batch, TokenStates) else batch.float() for batch in batches]
    return np.concatenate([vector.flatten(1).numpy() for vector in vectors])


def out_of_fold(matrix: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Probabilities (N, K) of each row by logistic regression on the other folds.

    Args:
        matrix: Features (N, D).
        labels: Label numbers (N,), 0 to K − 1, each at least once.
        groups: Group of each row (N,). Copies of a text are one group and share a fold: otherwise a wrong label would
            be learned from the copy.
    """
    # Slow to import.
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict  # noqa: PLC0415
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415

    c = INVERSE_PENALTY / len(matrix)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=MAX_ITERATIONS))
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        # About iterations (early stopping also regularizes) and rare labels (`find_label_errors` excludes them).
        warnings.simplefilter("ignore")
        probabilities: np.ndarray = cross_val_predict(
            model, matrix, labels, groups=groups, cv=folds, method="predict_proba"
        )
    return probabilities


def _doubtful(labels: np.ndarray, probabilities: np.ndarray) -> tuple[list[int], np.ndarray]:
    """Rows with a doubtful label, worst first, and the label quality of every row (N,)."""
    from cleanlab.filter import find_label_issues  # noqa: PLC0415 - an extra, and slow to import
    from cleanlab.rank import get_label_quality_scores  # noqa: PLC0415

    # In float64, with rows that sum to 1: cleanlab rejects others.
    exact = probabilities.astype(np.float64)
    exact /= exact.sum(1, keepdims=True)
    rows = np.flatnonzero(find_label_issues(labels, exact, n_jobs=1))
    quality = get_label_quality_scores(labels, exact, method="self_confidence")
    return rows[np.argsort(quality[rows], kind="stable")].tolist(), quality


# --- what is written ---------------------------------------------------------------------------------------


def _write(
    out: Path,
    figures: dict[str, Any],
    copies: list[dict[str, Any]],
    issues: list[dict[str, Any]] | None,
    left_out: Sequence[LeftOut],
) -> None:
    # Written first: it marks the folder as an audit, so that an interrupted audit can be repeated.
    atomic_write(out / AUDIT_FILE, json.dumps(figures, indent=2, ensure_ascii=False) + "\n")
    counts = figures["labels"]["rows"].items()
    _write_csv(out / "labels.csv", ["label", *figures["splits"]], ([label, *n.values()] for label, n in counts))
    header = ["group", "exact", "labels_differ", "split", *PLACE, "label", "text"]
    _write_csv(out / "duplicates.csv", header, ([copy[key] for key in header] for copy in copies))
    words = (list(word.values()) for word in figures["label_words"]["by_label"])
    _write_csv(out / "label_words.csv", ["label", "rows", "rows_with_its_name", "texts_with_its_name"], words)
    rows = ([*asdict(one.place).values(), one.problem] for one in left_out)
    _write_csv(out / "left_out.csv", [*PLACE, "problem"], rows)
    if issues is None:
        (out / ISSUES_FILE).unlink(missing_ok=True)  # of an earlier audit
    else:
        labels = [f"p({label})" for label in figures["label_errors"]["by_label"]]
        header = ["split", *PLACE, "text", "given", "suggested", "quality", *labels]
        _write_csv(out / ISSUES_FILE, header, ([issue[key] for key in header] for issue in issues))


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file; every cell that is not a number is quoted."""
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_cell(value) for value in row] for row in rows)
    atomic_write(path, text.getvalue())


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return round(value, 4) if isinstance(value, float) else value
