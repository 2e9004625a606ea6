"""Reads labelled texts from CSV, TSV, JSONL and Parquet, one file or a folder of splits.

Whatever can't be used as it is, is a `DataError` with file and row, never a guess: a wrongly decoded or silently
dropped row would change the result without a trace. Texts are kept unchanged.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fusion_classifier.config import TaskConfig
from fusion_classifier.errors import DataError, UsageError
from fusion_classifier.tasks.labels import (
    Labelled,
    is_multilabel,
    is_number,
    label_order,
    read_label_order,
    read_label_tree,
    read_labelled,
)
from fusion_classifier.tasks.loaded import Label, LoadedTask, Split
from fusion_classifier.tasks.readers import ENDINGS
from fusion_classifier.tasks.split import hold_out, rare_labels_note, split_rows

SPLIT_STEMS = {"train": ("train",), "valid": ("valid", "validation", "val", "dev"), "test": ("test",)}
LABEL_ORDER_FILE = "label2idx.txt"
LABEL_TREE_FILE = "label_tree.tsv"
MOST_NAMED = 8  # labels in a message


def load_table(
    path: Path,
    config: TaskConfig | None = None,
    *,
    name: str | None = None,
    licence: str = "unknown",
    labels: tuple[str, ...] | None = None,
    header: Sequence[str] | None = None,
) -> LoadedTask:
    """A task from one file, which is split by seed and stratified, or from a folder of split files.

    Label order: `labels`, else the columns of a multi-label table, else the folder's `label2idx.txt`, else the
    labels of the training rows, sorted.

    Args:
        path: file or folder.
        config: columns and seed of the split. Default: None, those of `TaskConfig`.
        name: name of the task. Default: None, that of the file or folder.
        licence: licence of the data. Default: "unknown".
        labels: label names in their order. Default: None, see above.
        header: column names of CSV and TSV files. Default: None, their first line.

    Raises:
        UsageError: no such file or folder.
        DataError: a file, row or field can't be used.
    """
    config = config or TaskConfig(name=str(path))
    if not path.exists():
        raise UsageError(f"{path}: no such file or folder")
    is_folder = path.is_dir()
    name = name or (path.resolve().name if is_folder else path.stem)
    files = find_splits(path) if is_folder else {"train": path}
    # Only train's paraphrases may be used.
    plain = config.model_copy(update={"augment_column": None})
    rows = {
        split: read_labelled(file, config if split == "train" else plain, header) for split, file in files.items()
    }
    order = _order(path, labels or config.label_columns, name)
    order = order or label_order(rows.get("train") or [row for part in rows.values() for row in part])
    splits = {split: to_split(part, order) for split, part in rows.items()}
    notes = []
    cross_validated = config.cross_validate and "train" in splits and "valid" not in splits
    if cross_validated:
        splits = {"train": splits["train"], "valid": splits["train"]} | splits
        notes = [f"{path.name}: all {len(splits['train']):,} rows are trained on; validation is a cross-validation"]
    elif not is_folder:
        splits = split_rows(splits["train"], config.split_seed, str(path))
        sizes = " / ".join(f"{len(part):,}" for part in splits.values())
        notes = [
            f"{path.name} was split into train / valid / test by seed {config.split_seed}, stratified: {sizes} rows"
        ]
    elif "train" in splits and "valid" not in splits:
        splits, note = hold_out(splits, config.split_seed, str(path))
        notes = [note]
    rare = rare_labels_note(splits, order) if notes and not cross_validated else None
    notes += [rare] if rare else []
    more = None
    if config.augment_column is not None and "train" in rows:
        train = set(splits["train"].texts)
        worded = [replace(row, text=row.paraphrase) for row in rows["train"] if row.paraphrase and row.text in train]
        more = to_split(worded, order)
    tree = path / LABEL_TREE_FILE
    pairs = read_label_tree(tree) if tree.is_file() else ()
    loaded = LoadedTask(name, order, splits, str(path), licence, tuple(notes), is_multilabel(config), more, pairs)
    return replace(loaded, cross_validated=cross_validated)


def _order(path: Path, given: tuple[str, ...], name: str) -> tuple[str, ...]:
    """The labels as given or as the folder's `label2idx.txt` has them; none if neither says them."""
    file = path / LABEL_ORDER_FILE
    if not file.is_file():
        return given
    published = read_label_order(file)
    if given and given != published:
        raise DataError(f"{file}: not the labels of task {name}, or in another order")
    return published


def find_splits(folder: Path) -> dict[str, Path]:
    """The file of each split that a folder has, by its name: train, valid (validation, val, dev), test."""
    found: dict[str, Path] = {}
    for split, stems in SPLIT_STEMS.items():
        paths = [folder / f"{stem}{ending}" for stem in stems for ending in ENDINGS]
        there = [path for path in paths if path.is_file()]
        if len(there) > 1:
            raise DataError(f"{folder}: {there[0].name} and {there[1].name} are both the {split} split; keep one")
        if there:
            found[split] = there[0]
    if not found:
        raise DataError(f"{folder}: no train, valid or test file with one of the endings {', '.join(ENDINGS)}")
    return found


def to_split(rows: list[Labelled], labels: tuple[str, ...]) -> Split:
    """Rows with their labels as indices.

    A label is a name, or, where no name is itself a number, its index.
    """
    index = {name: position for position, name in enumerate(labels)}
    if not any(map(is_number, labels)):
        index |= {str(position): position for position in range(len(labels))}
    found: list[Label] = []
    for row in rows:
        for label in row.labels:
            if label not in index:
                shown = ", ".join(labels[:MOST_NAMED]) + (", …" if len(labels) > MOST_NAMED else "")
                raise DataError(f"{row.place}: unknown label {label!r} (the {len(labels)} known ones: {shown})")
        several = tuple(sorted({index[label] for label in row.labels}))
        found.append(several if isinstance(row.label, tuple) else several[0])
    return Split(tuple(row.text for row in rows), tuple(found))
