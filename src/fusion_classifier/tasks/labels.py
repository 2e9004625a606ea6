"""Labels of a table's rows: columns, separators, order and hierarchy."""

from dataclasses import dataclass
from pathlib import Path

from fusion_classifier.errors import DataError
from fusion_classifier.tasks.readers import Row, column, encodable, read_utf8

MOST_DIGITS = 18  # of a label that is a number; a longer row of digits is a name


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


def checked_label(path: Path, where: str, value: object) -> str:
    # A Parquet column with numbers may hold them as 3.0.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    label = str(value).strip() if isinstance(value, (str, int, float)) else ""
    if not label or label == "nan":
        raise DataError(f"{path}, {where}: the label is {value!r}; give a name or a number, or remove the row")
    return encodable(path, where, label, "label")


def checked_labels(path: Path, row: Row, columns: Columns) -> tuple[str, ...]:
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
    found = [checked_label(path, row.where, part) for part in parts]
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


def is_number(label: str) -> bool:
    digits = label.removeprefix("-")
    return digits.isdecimal() and len(digits) <= MOST_DIGITS


def label_order(rows: list[Labelled]) -> tuple[str, ...]:
    """The labels that occur: numbers by size, names by alphabet."""
    labels = {label for row in rows for label in row.labels}
    if all(map(is_number, labels)):
        return tuple(sorted(labels, key=lambda label: (int(label), label)))
    return tuple(sorted(labels))
