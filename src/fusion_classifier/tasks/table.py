"""Reads labelled texts from CSV, TSV, JSONL and Parquet, one file or a folder of splits.

Whatever can't be used as it stands is a `DataError` with file and row, never a guess: a wrongly decoded or
silently dropped row would change the result without a trace. A text is kept to the letter.
"""

import codecs
import csv
import json
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fusion_classifier.errors import DataError, UsageError
from fusion_classifier.files import user_path
from fusion_classifier.parquet import check_claims, most_bytes, too_large
from fusion_classifier.tasks.split import hold_out, split_rows
from fusion_classifier.tasks.task import Label, Split, Task

ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet")
SPLIT_STEMS = {
    "train": ("train",),
    "valid": ("valid", "validation", "val", "dev"),
    "test": ("test",),
}
READ_ROWS = 4096  # of Parquet, made Python values at once; pyarrow's own 65,536 take tens of megabytes
MOST_DIGITS = 18  # of a label that is a number; a longer row of digits is a name
LABEL_ORDER_FILE = "label2idx.txt"
LABEL_TREE_FILE = "label_tree.tsv"

# A text may be longer than the csv module's default limit of 128 KiB a field.
csv.field_size_limit(2**31 - 1)


@dataclass(frozen=True)
class Row:
    """One row of a table: where it stands, its values by column, and the names of all columns."""

    where: str
    values: dict[str, object]
    columns: Collection[str]


@dataclass(frozen=True)
class Columns:
    """Which columns are read, and how.

    `several`: the label column holds several labels a row, as a list or with `separator` between them.
    `indicators`: one column of 0 and 1 for each label, instead of the label column.
    `augment`: a column with another wording of the text, used to train on only.
    """

    text: str = "text"
    label: str = "label"
    several: bool = False
    separator: str = ","
    indicators: tuple[str, ...] = ()
    augment: str | None = None

    @property
    def multilabel(self) -> bool:
        """Whether a row may have any number of labels."""
        return self.several or bool(self.indicators)

    @property
    def names(self) -> tuple[str, ...]:
        """All columns that are read."""
        more = (self.augment,) if self.augment else ()
        return (self.text, *(self.indicators or (self.label,)), *more)


@dataclass(frozen=True)
class Labelled:
    """A text and its label, or in a multi-label table its labels, as they stand in the file."""

    where: str
    text: str
    label: str | tuple[str, ...]
    paraphrase: str | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels of the row."""
        return self.label if isinstance(self.label, tuple) else (self.label,)


def read_rows(path: Path, columns: Collection[str]) -> Iterator[Row]:
    """The rows of a CSV, TSV, JSONL or Parquet file, in order, with at least the values of these columns.

    Raises:
        DataError: the file can't be read, or a row has not the shape of its header.
    """
    ending = path.suffix.lower()
    if not user_path(str(path)).exists():
        raise DataError(f"{path}: no such file")
    if path.is_dir():
        raise DataError(f"{path}: is a folder, not a file")
    if not path.is_file():  # it is read more than once, and a pipe would be waited for
        raise DataError(f"{path}: is no regular file but a pipe or a device; save what it gives to a file")
    if ending == ".parquet":
        return _parquet_rows(path, columns)
    if ending == ".jsonl":
        return _jsonl_rows(path)
    if ending in (".csv", ".tsv"):
        return _csv_rows(path, "\t" if ending == ".tsv" else _separator(path))
    raise DataError(f"{path}: can't read {ending or 'a file without an ending'}; use one of {', '.join(ENDINGS)}")


def read_utf8(path: Path) -> str:
    """A whole text file; a byte order mark is dropped, line ends are kept."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror})") from error
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _not_utf8(path, data.count(b"\n", 0, error.start) + 1, error) from error


def utf8_lines(path: Path, newline: str | None = None) -> Iterator[str]:
    """The lines of a text file one at a time, in constant memory; a byte order mark is dropped.

    Args:
        path: the file.
        newline: which line ends there are, and whether they are kept, as for `open`.

    Raises:
        DataError: the file can't be read, or at the line that is not UTF-8 or some lines before it.
    """
    try:
        with path.open(encoding="utf-8-sig", newline=newline) as file:
            yield from file
    except UnicodeDecodeError:
        # The position is one in a block of the file: look for the line.
        with path.open("rb") as raw:
            for number, line in enumerate(raw, start=1):
                try:
                    line.decode("utf-8")
                except UnicodeDecodeError as error:
                    raise _not_utf8(path, number, error) from error
        raise DataError(f"{path}: changed while it was read; run the same command again") from None
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror})") from error


# How files begin that are no text in UTF-8, by what they are and the way out.
OTHER_FILES = {
    b"\xff\xfe": ("text in UTF-16", "save it as UTF-8, or iconv -f UTF-16 -t UTF-8"),
    b"\xfe\xff": ("text in UTF-16", "save it as UTF-8, or iconv -f UTF-16 -t UTF-8"),
    b"\x1f\x8b": ("compressed by gzip", "unpack it by gunzip"),
    b"PK\x03\x04": ("a zip archive or a spreadsheet", "unpack it, or save the sheet as CSV UTF-8"),
    b"PAR1": ("a Parquet file", "name it .parquet"),
}


def _not_utf8(path: Path, line: int, error: UnicodeDecodeError) -> DataError:
    with path.open("rb") as raw:
        begins = raw.read(4)
    for beginning, (what, way_out) in OTHER_FILES.items():
        if begins.startswith(beginning):
            return DataError(f"{path}: is {what}, not text in UTF-8; {way_out}")
    return DataError(
        f"{path}, line {line}: not UTF-8 (byte 0x{error.object[error.start]:02x}); save the file as UTF-8 "
        "(in a spreadsheet: CSV UTF-8; else iconv -f LATIN1 -t UTF-8)"
    )


def _separator(path: Path) -> str:
    """What stands between the fields of a CSV file: a comma, unless the header has none and is cut by another.

    Spreadsheets write semicolons where the comma is the decimal sign.
    """
    header = next(utf8_lines(path, newline=""), "")
    with suppress(csv.Error):
        for separator in (",", ";", "\t"):
            if len(next(csv.reader([header], delimiter=separator), [])) > 1:
                return separator
    return ","


def _csv_rows(path: Path, delimiter: str) -> Iterator[Row]:
    line = 1  # where the row at hand begins
    reader = csv.reader(utf8_lines(path, newline=""), delimiter=delimiter, strict=True)
    try:
        header = next(reader, None)
        if not header or not any(name.strip() for name in header):
            more = any(name.strip() for row in reader for name in row)
            what = "has an empty first line" if more else "is empty"
            raise DataError(f"{path}: {what}; the first line must name the columns")
        if any("\x00" in name for name in header):
            raise DataError(f"{path}, line 1: NUL bytes in the header, as in UTF-16; save the file as UTF-8")
        doubled = sorted({name for name in header if header.count(name) > 1})
        if doubled:
            raise DataError(f"{path}, line 1: column {doubled[0]!r} stands there twice")
        line = reader.line_num + 1
        for cells in reader:
            if cells:  # a blank line is no row
                if len(cells) != len(header):
                    raise DataError(
                        f"{path}, line {line}: {len(cells)} fields where the header has {len(header)}; "
                        "put quotes around a field that holds the separator"
                    )
                yield Row(f"line {line}", dict(zip(header, cells, strict=True)), header)
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}, line {line}: {error}; look for a stray quote") from error


def _jsonl_rows(path: Path) -> Iterator[Row]:
    # Not splitlines(): a JSON string may hold U+2028 and its like unescaped.
    for number, line in enumerate(utf8_lines(path, newline="\n"), start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line, object_pairs_hook=_unique_keys)
        except (ValueError, RecursionError) as error:
            # Its own "line 1" would be taken for the file's.
            what = f"{error.msg} at character {error.colno}" if isinstance(error, json.JSONDecodeError) else error
            raise DataError(f"{path}, line {number}: not JSON ({what})") from error
        if not isinstance(values, dict):
            raise DataError(f'{path}, line {number}: not a JSON object such as {{"text": …, "label": …}}')
        yield Row(f"line {number}", values, values)


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key {next(key for key in keys if keys.count(key) > 1)!r} stands there twice")
    return values


def _parquet_rows(path: Path, columns: Collection[str]) -> Iterator[Row]:
    number = taken = 0
    try:
        schema = pq.read_schema(path)
        # A value that stands there once for many rows stays one in memory.
        repeated = [field.name for field in schema if pa.types.is_string(field.type)]
        with pq.ParquetFile(path, read_dictionary=repeated) as table:
            names = schema.names
            most = most_bytes(path)
            check_claims(path, table.metadata)
            doubled = sorted({name for name in names if names.count(name) > 1})
            if doubled:
                raise DataError(f"{path}: column {doubled[0]!r} stands there twice")
            # Only what is asked for: another column may hold what Python can't (a time beyond its calendar).
            chosen = [name for name in names if name in columns]
            # One row group a call: Arrow first reads the columns, compressed, of all that it is asked for.
            for group in range(table.num_row_groups):
                for batch in table.iter_batches(READ_ROWS, row_groups=[group], columns=chosen):
                    batch.validate(full=True)  # of a damaged file a value's number may be none of the dictionary's
                    values = [_shared_values(part) for part in batch.columns]
                    for of_row in zip(*values, strict=True) if values else [()] * len(batch):
                        number += 1
                        taken += sum(len(value) for value in of_row if isinstance(value, str))
                        if taken > most:
                            raise too_large(path, f"rows up to {number:,} make {taken:,} characters")
                        yield Row(f"row {number}", dict(zip(batch.schema.names, of_row, strict=True)), names)
    except DataError:
        raise
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise DataError(f"{path}, after row {number}: not a readable Parquet file ({error})") from error


def _shared_values(part: pa.Array) -> list[object]:
    """The values of a column, those of a dictionary made once."""
    if not pa.types.is_dictionary(part.type):
        return list(part.to_pylist())
    known = part.dictionary.to_pylist()
    return [None if index is None else known[index] for index in part.indices.to_pylist()]


def column(path: Path, row: Row, name: str, option: str) -> object:
    """The value of a column, or an error that names the columns there are."""
    if name not in row.values:
        have = ", ".join(repr(key) for key in row.columns)
        # In a CSV or Parquet file it is the header that lacks the column, in JSONL this line.
        where = f"{path}, {row.where}" if path.suffix.lower() == ".jsonl" else f"{path}"
        raise DataError(f"{where}: no column {name!r} (there: {have}); name it with {option}")
    return row.values[name]


def checked_text(path: Path, where: str, value: object) -> str:
    """The text to the letter, or an error if it is none."""
    if not isinstance(value, str):
        raise DataError(f"{path}, {where}: the text is {value!r}, not a string; mend or remove the row")
    if not value.strip():
        raise DataError(f"{path}, {where}: the text is empty; mend or remove the row")
    return _encodable(path, where, value, "text")


def _encodable(path: Path, where: str, value: str, what: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{path}, {where}: the {what} holds half a surrogate pair at character {error.start + 1}; "
            "mend or remove the row"
        ) from error
    return value


def _checked_label(path: Path, where: str, value: object) -> str:
    # A Parquet column with numbers may hold them as 3.0.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    label = str(value).strip() if isinstance(value, (str, int, float)) else ""
    if not label or label == "nan":
        raise DataError(f"{path}, {where}: the label is {value!r}; give a name or a number, or remove the row")
    return _encodable(path, where, label, "label")


def _checked_labels(path: Path, row: Row, columns: Columns) -> tuple[str, ...]:
    """All labels of a row, each once."""
    if columns.indicators:
        return tuple(name for name in columns.indicators if _indicated(path, row, name))
    value = column(path, row, columns.label, "--label-column")
    if isinstance(value, list | tuple):
        parts = list(value)
    elif value is None or (isinstance(value, str) and not value.strip()):
        parts = []  # a text that has none of the labels
    else:
        parts = str(value).split(columns.separator) if isinstance(value, str) else [value]
    found = [_checked_label(path, row.where, part) for part in parts]
    doubled = next((label for label in found if found.count(label) > 1), None)
    if doubled is not None:
        raise DataError(f"{path}, {row.where}: label {doubled!r} stands there twice; keep one")
    return tuple(found)


def _indicated(path: Path, row: Row, name: str) -> bool:
    value = column(path, row, name, "--label-columns")
    if str(value).strip().lower() in ("1", "1.0", "true"):
        return True
    if str(value).strip().lower() in ("0", "0.0", "false"):
        return False
    raise DataError(f"{path}, {row.where}: column {name!r} holds {value!r}; a label column holds 0 or 1")


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
            label = _checked_labels(path, row, columns)
        else:
            value = column(path, row, columns.label, "--label-column")
            if isinstance(value, list):
                raise DataError(
                    f"{path}, {row.where}: the label is {value!r}; give a name or a number, or remove the row "
                    "(--multilabel reads lists of labels)"
                )
            label = _checked_label(path, row.where, value)
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


def read_label_order(path: Path) -> tuple[str, ...]:
    """Label names in the order of their numbers, from lines of `name number`."""
    numbered: dict[int, str] = {}
    for number, line in enumerate(read_utf8(path).splitlines(), start=1):
        if not line.strip():
            continue
        name, _, index = line.strip().rpartition(" ")
        name = name.strip()
        if not name or not index.isdecimal() or len(index) > MOST_DIGITS:
            raise DataError(f"{path}, line {number}: expected a name and a number, found {line.strip()!r}")
        if int(index) in numbered or name in numbered.values():
            raise DataError(f"{path}, line {number}: {line.strip()!r} repeats a name or a number")
        numbered[int(index)] = name
    if sorted(numbered) != list(range(len(numbered))):
        raise DataError(f"{path}: the numbers must run from 0 to {len(numbered) - 1} without a gap")
    return tuple(numbered[index] for index in range(len(numbered)))


def read_label_tree(path: Path) -> tuple[tuple[str, str], ...]:
    """A hierarchy of labels from lines of child and parent with a tab between them, in their order.

    A node may stand there with all its ancestors; nodes that are no labels are groups.

    Raises:
        DataError: a line of another form.
    """
    pairs = []
    for number, line in enumerate(read_utf8(path).splitlines(), start=1):
        if not line.strip():
            continue
        names = tuple(name.strip() for name in line.split("\t"))
        if len(names) != 2 or not all(names):
            raise DataError(f"{path}, line {number}: expected a child, a tab and its parent, found {line.strip()!r}")
        pairs.append((names[0], names[1]))
    return tuple(pairs)


def _is_number(label: str) -> bool:
    digits = label.removeprefix("-")
    return digits.isdecimal() and len(digits) <= MOST_DIGITS


def label_order(rows: list[Labelled]) -> tuple[str, ...]:
    """The labels that occur: numbers by size, names by alphabet."""
    labels = {label for row in rows for label in row.labels}
    if all(map(_is_number, labels)):
        return tuple(sorted(labels, key=lambda label: (int(label), label)))
    return tuple(sorted(labels))


def to_split(path: Path, rows: list[Labelled], labels: tuple[str, ...]) -> Split:
    """Rows with their labels as indices.

    A label is a name, or, where no name is itself a number, its index.

    Raises:
        DataError: a label that is not among `labels`.
    """
    index = {name: position for position, name in enumerate(labels)}
    if not any(map(_is_number, labels)):
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
    columns: Columns = Columns(),
    split_seed: int = 0,
    licence: str = "unknown",
    labels: tuple[str, ...] | None = None,
) -> Task:
    """A task from one file, split with a seed and stratified, or from a folder of split files.

    Label order: `labels`, else the columns of a multi-label table, else the folder's `label2idx.txt`, else the
    labels of the training rows sorted.
    """
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
    return Task(
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
) -> Task:
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
    return Task(name, order, splits, str(folder), licence, notes, columns.multilabel, more, tree)


def texts_of(path: Path, text_column: str) -> Iterator[str]:
    """The texts of a file one by one: a column of a table, or the lines of a .txt.

    Raises:
        DataError: the file can't be read, or a text is empty; the message names file and row.
    """
    if path.suffix.lower() == ".txt":
        if not user_path(str(path)).is_file():
            raise DataError(f"{path}: no such file")
        for number, line in enumerate(utf8_lines(path), start=1):
            yield checked_text(path, f"line {number}", line.rstrip("\n"))
        return
    for row in read_rows(path, (text_column,)):
        yield checked_text(path, row.where, column(path, row, text_column, "--text-column"))
