"""Reads labelled texts from CSV, TSV, JSONL and Parquet, one file or a folder of splits.

Whatever can't be used as it stands is a `DataError` with file and row, never a guess: a wrongly decoded or
silently dropped row would change the result without a trace. A text is kept to the letter.
"""

import csv
from dataclasses import replace
from pathlib import Path

from fusion_classifier.errors import DataError, UsageError
from fusion_classifier.tasks.labels import (
    Columns,
    Labelled,
    checked_label,
    checked_labels,
    is_number,
    label_order,
    read_label_order,
    read_label_tree,
)
from fusion_classifier.tasks.loaded import Label, LoadedTask, Split
from fusion_classifier.tasks.readers import ENDINGS, Row, checked_text, column, read_rows
from fusion_classifier.tasks.split import hold_out, split_rows

SPLIT_STEMS = {
    "train": ("train",),
    "valid": ("valid", "validation", "val", "dev"),
    "test": ("test",),
}
LABEL_ORDER_FILE = "label2idx.txt"
LABEL_TREE_FILE = "label_tree.tsv"

# A text may be longer than the csv module's default limit of 128 KiB a field.
csv.field_size_limit(2**31 - 1)


def read_labelled(path: Path, columns: Columns) -> list[Labelled]:
    """All texts and labels of a file.

    Raises:
        DataError: file, row or field that can't be used, by name.
    """
    rows = []
    for row in read_rows(path, columns.names):
        text = checked_text(path, row.where, column(path, row, columns.text, "--text-column"))
        label: str | tuple[str, ...]
        if columns.multilabel:
            label = checked_labels(path, row, columns)
        else:
            value = column(path, row, columns.label, "--label-column")
            if isinstance(value, list):
                raise DataError(
                    f"{path}, {row.where}: the label is {value!r}; give a name or a number, or remove the row "
                    "(--multilabel reads lists of labels)"
                )
            label = checked_label(path, row.where, value)
        rows.append(Labelled(row.where, text, label, _paraphrase(path, row, columns)))
    if not rows:
        raise DataError(f"{path}: has no rows")
    return rows


def _paraphrase(path: Path, row: Row, columns: Columns) -> str | None:
    """Another wording of the text; a row may do without."""
    if columns.augment is None:
        return None
    value = column(path, row, columns.augment, "--augment-column")
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    return checked_text(path, row.where, value)


def to_split(path: Path, rows: list[Labelled], labels: tuple[str, ...]) -> Split:
    """Rows with their labels as indices.

    A label is a name, or, where no name is itself a number, its index.

    Raises:
        DataError: a label that is not among `labels`.
    """
    index = {name: position for position, name in enumerate(labels)}
    if not any(map(is_number, labels)):
        index |= {str(position): position for position in range(len(labels))}
    found: list[Label] = []
    for row in rows:
        unknown = next((label for label in row.labels if label not in index), None)
        if unknown is not None:
            shown = ", ".join(labels[:8]) + (", …" if len(labels) > 8 else "")
            raise DataError(f"{path}, {row.where}: unknown label {unknown!r} (the {len(labels)} known ones: {shown})")
        several = tuple(sorted({index[label] for label in row.labels}))
        found.append(several if isinstance(row.label, tuple) else several[0])
    return Split(tuple(row.text for row in rows), tuple(found))


def to_augmentation(path: Path, rows: list[Labelled], labels: tuple[str, ...]) -> Split:
    """The other wordings of rows, with the rows' labels."""
    worded = [replace(row, text=row.paraphrase) for row in rows if row.paraphrase is not None]
    return to_split(path, worded, labels)


def find_splits(folder: Path) -> dict[str, Path]:
    """The file of each split that a folder has, by its name: train, valid (validation, val, dev), test."""
    found: dict[str, Path] = {}
    for split, stems in SPLIT_STEMS.items():
        paths = [folder / f"{stem}{ending}" for stem in stems for ending in ENDINGS]
        there = [path for path in paths if path.is_file()]
        if len(there) > 1:
            raise DataError(
                f"{folder}: {there[0].name} and {there[1].name} both claim to be the {split} split; keep one"
            )
        if there:
            found[split] = there[0]
    return found


def load_table(
    path: Path,
    *,
    name: str | None = None,
    columns: Columns | None = None,
    split_seed: int = 0,
    licence: str = "unknown",
    labels: tuple[str, ...] | None = None,
) -> LoadedTask:
    """A task from one file, split with a seed and stratified, or from a folder of split files.

    Label order: `labels`, else the columns of a multi-label table, else the folder's `label2idx.txt`, else the
    labels of the training rows sorted.
    """
    columns = columns or Columns()
    if not path.exists():
        raise UsageError(f"{path}: no such file or folder")
    if columns.indicators:
        labels = labels or columns.indicators
    if path.is_dir():
        return _load_folder(path, name or path.resolve().name, columns, split_seed, licence, labels)
    rows = read_labelled(path, columns)
    order = labels or label_order(rows)
    whole = to_split(path, rows, order)
    parts = split_rows(whole, split_seed, str(path))
    sizes = " / ".join(f"{len(part):,}" for part in parts.values())
    return LoadedTask(
        name or path.stem,
        order,
        parts,
        str(path),
        licence,
        (f"{path.name} was split into {' / '.join(parts)} by seed {split_seed}, stratified: {sizes} rows",),
        columns.multilabel,
        _augmentation(path, rows, order, parts, columns),
    )


def _augmentation(
    path: Path, rows: list[Labelled], labels: tuple[str, ...], parts: dict[str, Split], columns: Columns
) -> Split | None:
    """Other wordings of those rows whose text is in the train split."""
    if columns.augment is None:
        return None
    train = set(parts["train"].texts)
    return to_augmentation(path, [row for row in rows if row.text in train], labels)


def _load_folder(
    folder: Path,
    name: str,
    columns: Columns,
    split_seed: int,
    licence: str,
    labels: tuple[str, ...] | None,
) -> LoadedTask:
    files = find_splits(folder)
    if not files:
        endings = ", ".join(ENDINGS)
        raise DataError(f"{folder}: no train, valid or test file with one of the endings {endings}")
    # Only the other wordings of train may be used.
    rows = {
        split: read_labelled(path, columns if split == "train" else replace(columns, augment=None))
        for split, path in files.items()
    }
    order_file = folder / LABEL_ORDER_FILE
    if order_file.is_file():
        order = read_label_order(order_file)
        if labels is not None and order != labels:
            raise DataError(f"{order_file}: not the labels of task {name}, or in another order")
    else:
        order = labels or label_order(rows.get("train") or [row for part in rows.values() for row in part])
    splits = {split: to_split(files[split], rows[split], order) for split in files}
    notes: tuple[str, ...] = ()
    if "valid" not in splits and "train" in splits:
        splits = hold_out(splits, split_seed, str(folder))
        notes = (
            f"{folder} has no validation split: {len(splits['valid']):,} rows of train were held out "
            f"by seed {split_seed}, stratified",
        )
    more = _augmentation(files["train"], rows["train"], order, splits, columns) if "train" in splits else None
    tree_file = folder / LABEL_TREE_FILE
    tree = read_label_tree(tree_file) if tree_file.is_file() else ()
    return LoadedTask(name, order, splits, str(folder), licence, notes, columns.multilabel, more, tree)
