"""Labelled texts from one table, or from one for each split: files, folders and data sets on the Hub.

Anything that can't be used raises a `DataError` with file and row; nothing is guessed, since a wrongly decoded or
silently dropped row would change the result unnoticed. Texts are kept unchanged.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fusion_classifier.config import TaskConfig
from fusion_classifier.errors import DataError, UsageError
from fusion_classifier.support.text import counted, first_few
from fusion_classifier.tasks.labels import (
    Labelled,
    Reading,
    is_multilabel,
    is_number,
    label_order,
    read_label_order,
    read_label_tree,
    read_labelled,
    shown_places,
)
from fusion_classifier.tasks.loaded import Label, LeftOut, LoadedTask, Split
from fusion_classifier.tasks.readers import ENDINGS, TEXT_ENDINGS
from fusion_classifier.tasks.saved_dataset import is_saved_dataset, saved_splits
from fusion_classifier.tasks.split import CROSS_VALIDATED_ROWS, check_enough, hold_out, rare_labels_note, split_rows
from fusion_classifier.tasks.text_file import COMPRESSED

SPLIT_STEMS = {"train": ("train",), "valid": ("valid", "validation", "val", "dev"), "test": ("test",)}
SPLIT_ENDINGS = (*ENDINGS, *(text + packed for text in TEXT_ENDINGS for packed in COMPRESSED))
SHARD = re.compile(r"(\w+)-(\d+)-of-(\d+)((?:\.\w+)+)")  # train-00000-of-00002.parquet
HUB_FOLDER = "data"
LABEL_ORDER_FILE = "label2idx.txt"
LABEL_TREE_FILE = "label_tree.tsv"
WHOLE = "whole"  # a single table, which has no splits yet
MAX_SHOWN = 8  # labels in a message


def load_table(
    path: Path,
    config: TaskConfig | None = None,
    *,
    name: str | None = None,
    licence: str = "unknown",
    labels: tuple[str, ...] | None = None,
    header: Sequence[str] | None = None,
    known: tuple[str, ...] | None = None,
) -> LoadedTask:
    """A task from one file, which is split by seed and stratified, or from a folder of split files.

    Label order: `known`, else `labels`, else the columns of a multi-label table, else the folder's `label2idx.txt`,
    else the labels of the training rows, sorted.

    Args:
        path: file or folder.
        config: columns and seed of the split. Default: those of `TaskConfig`.
        name: name of the task. Default: that of the file or folder.
        licence: licence of the data. Default: "unknown".
        labels: label names in their order. Default: see above.
        header: column names of CSV and TSV files. Default: None: their first line. known: labels of a model to
        evaluate, of which the data may have only some; then nothing is split: a single
            file is the test split. Default: None: the data are for training.
    """
    config = config or TaskConfig(name=str(path))
    if not path.exists():
        raise UsageError(f"{path}: no such file or folder")
    is_folder = path.is_dir() and not is_saved_dataset(path)
    unpacked = path.with_suffix("") if path.suffix.lower() in COMPRESSED else path
    name = name or (path.resolve().name if path.is_dir() else unpacked.stem)
    files = find_splits(path) if is_folder else {WHOLE: [path]}
    readings = {split: read_labelled(parts, in_split(config, split), header) for split, parts in files.items()}
    tree = path / LABEL_TREE_FILE
    return table_task(
        readings,
        config,
        name=name,
        source=str(path),
        licence=licence,
        given=_order(path, labels or config.label_columns, name),
        known=known,
        label_tree=read_label_tree(tree) if tree.is_file() else (),
    )


def in_split(config: TaskConfig, split: str) -> TaskConfig:
    """Configuration for reading a split: paraphrases are used in train only."""
    return config if split in ("train", WHOLE) else config.model_copy(update={"augment_column": None})


def table_task(
    readings: Mapping[str, Reading],
    config: TaskConfig,
    *,
    name: str,
    source: str,
    licence: str = "unknown",
    given: tuple[str, ...] = (),
    known: tuple[str, ...] | None = None,
    label_tree: tuple[tuple[str, str], ...] = (),
) -> LoadedTask:
    """A task of tables that were read.

    Args:
        readings: rows of each split, or of `WHOLE`, a single table, which is split.
        config: columns and seed of the split.
        name: name of the task.
        source: location of the tables.
        licence: licence of the data. Default: "unknown".
        given: label names in the order of their numbers. Default: none are given.
        known: see `load_table`.
        label_tree: see `LoadedTask`.
    """
    is_single = WHOLE in readings
    if is_single:
        readings = {"train" if known is None else "test": readings[WHOLE]}
    rows, left_out = {split: one.rows for split, one in readings.items()}, []
    trained = rows.get("train") or [row for part in rows.values() for row in part]
    order = known or given or label_order(trained)
    splits = {}
    for split, part in rows.items():
        used, unknown = known_rows(part, order, given, skip=config.unknown_labels == "skip")
        left_out += [*readings[split].left_out, *unknown]
        if not used:
            raise DataError(f"{part[0].place.file}: all rows have unknown labels, such as {part[0].labels}")
        rows[split], splits[split] = used, to_split(used, order, given)
    notes = _left_out_notes(left_out)
    cross_validated = False
    if known is None:
        splits, about, cross_validated = _to_train_on(source, config, splits, order, is_single=is_single)
        notes += about
    more = None
    if config.augment_column is not None and "train" in rows:
        train = set(splits["train"].texts)
        worded = [replace(row, text=row.paraphrase) for row in rows["train"] if row.paraphrase and row.text in train]
        more = to_split(worded, order, given)
    loaded = LoadedTask(name, order, splits, source, licence, tuple(notes), is_multilabel(config), more, label_tree)
    return replace(loaded, cross_validated=cross_validated, left_out=tuple(left_out))


def _left_out_notes(left_out: Sequence[LeftOut]) -> list[str]:
    """Notes on skipped rows, one per file."""
    by_file: dict[str, list[LeftOut]] = {}
    for one in left_out:
        by_file.setdefault(one.place.file, []).append(one)
    notes = []
    for file, rows in by_file.items():
        problems = Counter(one.problem for one in rows).most_common()
        counts = first_few([f"{problem} ({count:,})" for problem, count in problems], MAX_SHOWN)
        where = shown_places([one.place for one in rows])
        notes.append(f"{file}: {counted(len(rows), 'row')} left out ({where}): {counts}")
    return notes


def _to_train_on(
    source: str, config: TaskConfig, splits: dict[str, Split], order: Sequence[str], *, is_single: bool
) -> tuple[dict[str, Split], list[str], bool]:
    """Splits to train on and to validate on, notes about them, and whether the task is cross-validated."""
    short = Path(source).name
    if _is_cross_validated(config, splits, is_single=is_single):
        train = splits["train"]
        note = f"{short}: all {len(train):,} rows are used for training; validation is a cross-validation"
        if config.cross_validate is None:
            note += " (few rows; `cross_validate=False` holds out a tenth each for validation and test)"
        splits = {"train": train, "valid": train} | splits
        if not is_single:
            return splits, [note], True
        check_enough(train, source)
        rare = rare_labels_note({"train": train}, order)
        return splits, [note, rare] if rare else [note], True
    if is_single:
        splits = split_rows(splits["train"], config.split_seed, source)
        sizes = " / ".join(f"{len(part):,}" for part in splits.values())
        note = f"{short} was split into train / valid / test by seed {config.split_seed}, stratified: {sizes} rows"
    elif "train" in splits and "valid" not in splits:
        splits, note = hold_out(splits, config.split_seed, source)
    else:
        return splits, [], False
    rare = rare_labels_note(splits, order)
    return splits, [note, rare] if rare else [note], False


def _is_cross_validated(config: TaskConfig, splits: Mapping[str, Split], *, is_single: bool) -> bool:
    """Whether the task is cross-validated."""
    if config.cross_validate is None:
        few = "train" in splits and len(splits["train"]) <= CROSS_VALIDATED_ROWS
        return few and is_single and config.augment_column is None
    if config.cross_validate and "valid" in splits:
        raise UsageError("`cross_validate`: the data have a validation split; leave out its file, or the option")
    return config.cross_validate and "train" in splits and "valid" not in splits


def _order(path: Path, given: tuple[str, ...], name: str) -> tuple[str, ...]:
    """The labels given, or those in the folder's `label2idx.txt`; empty if there are neither."""
    file = path / LABEL_ORDER_FILE
    if not file.is_file():
        return given
    published = read_label_order(file)
    if given and given != published:
        raise DataError(f"{file}: the labels are not those of task {name}, or in a different order")
    return published


def find_splits(folder: Path) -> dict[str, list[Path]]:
    """The files of each split that a folder has, by name: train, valid (validation, val, dev), test.

    A split may be in shards, `train-00000-of-00002.parquet` and so on, as the Hub has them; they may be in the folder
    `data`, as in a copy of a data set of the Hub.

    Raises:
        DataError: There are none, a split is duplicated, or a shard is missing.
    """
    if saved := saved_splits(folder):
        return {split: [folder / name] for split, name in split_names(saved, str(folder)).items()}
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    found: dict[str, list[Path]] = {}
    for split, stems in SPLIT_STEMS.items():
        there = [[name] for stem in stems for ending in SPLIT_ENDINGS if (name := f"{stem}{ending}") in names]
        there += _sharded(folder, names, stems)
        if len(there) > 1:
            raise DataError(f"{folder}: {there[0][0]} and {there[1][0]} are both the {split} split; keep one")
        if there:
            found[split] = [folder / name for name in there[0]]
    if not found and (folder / HUB_FOLDER).is_dir():
        return find_splits(folder / HUB_FOLDER)
    if not found:
        raise DataError(f"{folder}: no train, valid or test file with one of the extensions {', '.join(ENDINGS)}")
    return found


def _sharded(folder: Path, names: Sequence[str], stems: Sequence[str]) -> list[list[str]]:
    """The shards of a split in their order, one list per naming."""
    groups: dict[tuple[str, int, str], dict[int, str]] = {}
    for name in names:
        if (match := SHARD.fullmatch(name)) and match[1] in stems and match[4] in SPLIT_ENDINGS:
            groups.setdefault((match[1], int(match[3]), match[4]), {})[int(match[2])] = name
    for (stem, count, _), shards in groups.items():
        if missing := [number for number in range(count) if number not in shards]:
            raise DataError(
                f"{folder}: of the {count} shards of {stem}, number {', '.join(map(str, missing[:MAX_SHOWN]))} is "
                f"missing (found: {', '.join(list(shards.values())[:MAX_SHOWN])}); copy all of them"
            )
    return [[shards[number] for number in sorted(shards)] for shards in groups.values()]


def split_names(names: Sequence[str], source: str) -> dict[str, str]:
    """The split of each name; a single one with another name is the whole table."""
    found: dict[str, str] = {}
    for split, stems in SPLIT_STEMS.items():
        there = [name for name in names if name in stems]
        if len(there) > 1:
            raise DataError(f"{source}: {there[0]} and {there[1]} are both the {split} split; keep one")
        if there:
            found[split] = there[0]
    if list(found) == ["train"] or (len(names) == 1 and not found):
        return {WHOLE: found.get("train", names[0])}
    if not found:
        raise DataError(f"{source} has the splits {', '.join(names)}; rename one to train")
    return found


def _positions(labels: Sequence[str], numbered: Sequence[str]) -> dict[str, int]:
    """The index of each label by its name and, where no name is a number, by its number in `numbered`."""
    index = {name: position for position, name in enumerate(labels)}
    if any(map(is_number, labels)):
        return index
    return index | {str(number): index[name] for number, name in enumerate(numbered) if name in index}


def known_rows(
    rows: Sequence[Labelled], labels: Sequence[str], numbered: Sequence[str], *, skip: bool = False
) -> tuple[list[Labelled], list[LeftOut]]:
    """The rows whose labels are all known, and with `skip` the others."""
    index = _positions(labels, numbered)
    used, left_out = [], []
    unknown = Counter[str]()
    for row in rows:
        strange = next((label for label in row.labels if label not in index), None)
        if strange is None:
            used.append(row)
        else:
            unknown[strange] += 1
            left_out.append(LeftOut(row.place, f"unknown label {strange!r}"))
    if not unknown or skip:
        return used, left_out
    shown = first_few(labels, MAX_SHOWN)
    counts = first_few([f"{label!r} ({count:,})" for label, count in unknown.most_common()], MAX_SHOWN)
    every = f"; {len(left_out):,} rows have such a label: {counts}" if len(left_out) > 1 else ""
    way_out = "correct them, or skip such rows (`unknown_labels` skip)"
    if not numbered and all(map(is_number, unknown)) and not any(map(is_number, labels)):
        way_out = f"it is not known which number is which label; add a {LABEL_ORDER_FILE} with lines NAME NUMBER"
    raise DataError(
        f"{left_out[0].place}: {left_out[0].problem}{every} (the {len(labels)} known ones: {shown}); {way_out}"
    )


def to_split(rows: Sequence[Labelled], labels: Sequence[str], numbered: Sequence[str] = ()) -> Split:
    """Rows with their labels as indices.

    Args:
        rows: rows.
        labels: label names in the order of their indices.
        numbered: label names in the order of the numbers that the rows may have instead of names. Default: rows have
            names.
    """
    known_rows(rows, labels, numbered)
    index = _positions(labels, numbered)
    found: list[Label] = []
    for row in rows:
        several = tuple(sorted({index[label] for label in row.labels}))
        found.append(several if isinstance(row.label, tuple) else several[0])
    return Split(tuple(row.text for row in rows), tuple(found), tuple(row.place for row in rows))
