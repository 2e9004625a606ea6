"""Labels of a table's rows: columns, separators, order and hierarchy."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fusion_classifier.config import TaskConfig
from fusion_classifier.errors import DataError, RowError
from fusion_classifier.support.text import first_few
from fusion_classifier.tasks.label_lists import parse_list
from fusion_classifier.tasks.loaded import LeftOut, RowPlace
from fusion_classifier.tasks.readers import (
    checked_text,
    column,
    encodable,
    is_missing,
    names_of,
    read_rows,
    row_text,
)
from fusion_classifier.tasks.row import Row
from fusion_classifier.tasks.text_file import utf8_lines

MAX_ROWS = 20  # rows in a message
MAX_CHARACTERS = 80  # characters of a cell in a message
MISSING = ("nan", "<na>", "nat")  # as pandas writes a missing value
MAX_DIGITS = 18  # of a label that is a number; more digits are a name
INDICATORS = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}


@dataclass(frozen=True, slots=True)
class Labelled:
    """A text and its label, in a multi-label table its labels, as they are in the file at `place`."""

    place: RowPlace
    text: str
    label: str | tuple[str, ...]
    paraphrase: str | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels of the row."""
        return self.label if isinstance(self.label, tuple) else (self.label,)


def is_multilabel(config: TaskConfig) -> bool:
    """Whether a row may have any number of labels."""
    return config.multilabel or bool(config.label_columns)


@dataclass(frozen=True)
class Reading:
    """The rows of a file that are used, and the skipped ones."""

    rows: list[Labelled]
    left_out: list[LeftOut]


def read_labelled(path: Path | Sequence[Path], config: TaskConfig, header: Sequence[str] | None = None) -> Reading:
    """All texts and labels of a file, or of its shards; `header` as for `read_rows`."""
    more = (config.augment_column,) if config.augment_column else ()
    columns = (*names_of(config.text_column), *(config.label_columns or (config.label_column,)), *more)
    files = [path] if isinstance(path, Path) else path
    rows = (row for file in files for row in read_rows(file, columns, header, config.encoding))
    reading = all_labelled(rows, config)
    if not reading.rows:
        raise DataError(f"{files[0]} has no rows" + (" with a text and a label" if reading.left_out else ""))
    return reading


def all_labelled(rows: Iterable[Row], config: TaskConfig) -> Reading:
    """Texts and labels of rows; with `skip_empty`, rows without a text or label are skipped."""
    found: list[Labelled] = []
    left_out: list[LeftOut] = []
    problems: list[RowError] = []
    for row in rows:
        try:
            found.append(labelled(row, config))
        except RowError as error:
            if error.missing and config.skip_empty:
                left_out.append(LeftOut(row.place, error.problem))
            else:
                problems.append(error)
    if problems:
        raise _all_problems(problems)
    return Reading(found, left_out)


def _all_problems(problems: Sequence[RowError]) -> DataError:
    """An error with the first rows that can't be used, and their number."""
    first = problems[:MAX_ROWS]
    ways_out = list(dict.fromkeys(one.way_out for one in first))
    if any(one.missing for one in problems):
        ways_out.append("or skip rows without a text or label (`skip_empty`)")
    way_out = ", ".join(ways_out)
    if len(problems) == 1:
        return RowError(first[0].place, first[0].problem, way_out)
    by_problem: dict[str, list[RowPlace]] = {}
    for one in first:
        by_problem.setdefault(_short(one.problem), []).append(one.place)
    listed = "; ".join(f"{problem} ({shown_places(places)})" for problem, places in by_problem.items())
    more = f"; and {len(problems) - MAX_ROWS:,} more" if len(problems) > MAX_ROWS else ""
    return DataError(f"{first[0].place.file}: {len(problems):,} rows can't be used: {listed}{more}; {way_out}")


def _short(text: str) -> str:
    return text if len(text) <= MAX_CHARACTERS else f"{text[: MAX_CHARACTERS - 1]}…"


def shown_places(places: Sequence[RowPlace]) -> str:
    """Short description of places, such as "lines 3, 9", with names if there are several files; at most 20 are
    listed.
    """
    if len({place.file for place in places}) > 1:
        return ", ".join(f"{Path(place.file).name}, {place.within}" for place in places[:MAX_ROWS])
    unit = "row" if places[0].line is None else "line"
    numbers = [place.row if place.line is None else place.line for place in places]
    return f"{unit}{'s'[: len(places) > 1]} {first_few(numbers, MAX_ROWS)}"


def labelled(row: Row, config: TaskConfig) -> Labelled:
    """Text and label of a row."""
    text = checked_text(row_text(row, config.text_column), row.place)
    label: str | tuple[str, ...]
    if is_multilabel(config):
        label = _several_labels(row, config)
    else:
        label = _checked_label(column(row, config.label_column, "label_column"), row.place)
        if label[0] in "[{(" and is_list(label):
            raise RowError(row.place, f"the label is the list {label[:MAX_CHARACTERS]!r}", "set `multilabel`")
    paraphrase = None
    if config.augment_column is not None:
        value = column(row, config.augment_column, "augment_column")
        if value is not None and (not isinstance(value, str) or value.strip()):  # a row may have none
            paraphrase = checked_text(value, row.place)
    return Labelled(row.place, text, label, paraphrase)


def _several_labels(row: Row, config: TaskConfig) -> tuple[str, ...]:
    if config.label_columns:
        return tuple(name for name in config.label_columns if _indicated(row, name))
    value = column(row, config.label_column, "label_column")
    if isinstance(value, str):
        value = _written(value, config.label_separator, row.place)
    parts = [] if value is None else value if isinstance(value, list | tuple) else [value]
    found = tuple(_checked_label(part, row.place) for part in parts)
    if len(set(found)) < len(found):
        label = next(label for label in found if found.count(label) > 1)
        vector = len(found) > 2 and set(found) <= set("01")
        way_out = "for vectors of 0 and 1, use one column per label (`label_columns`)" if vector else "keep one"
        raise RowError(row.place, f"label {label!r} is duplicated", way_out)
    return found


def _written(cell: str, separator: str, place: RowPlace) -> list[object] | None:
    """The labels in a text cell: a list, or names joined by the separator."""
    try:
        found = parse_list(cell)
    except ValueError:
        raise RowError(
            place,
            f"the labels are {cell[:MAX_CHARACTERS]!r}, in brackets, but not a valid list",
            'write ["a", "b"], or names separated by `label_separator`, without brackets',
        ) from None
    return found if found is not None else list(cell.split(separator)) if cell.strip() else None


def is_list(cell: str) -> bool:
    """Whether a text is a list in the notation of JSON, Python, numpy or PostgreSQL."""
    try:
        return parse_list(cell) is not None
    except ValueError:  # such as [laughs]
        return False


def _checked_label(value: object, place: RowPlace) -> str:
    # A Parquet column with numbers may have them as 3.0.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    label = str(value).strip() if isinstance(value, (str, int, float)) else ""
    if not label or label.casefold() in MISSING:
        missing = (not label and (is_missing(value) or isinstance(value, str))) or label.casefold() in MISSING
        way_out = "give a name or a number (several: set `multilabel`)"
        raise RowError(place, f"the label is {value!r}", way_out, missing=missing)
    return encodable(label, place, "label")


def _indicated(row: Row, name: str) -> bool:
    value = column(row, name, "label_columns")
    given = INDICATORS.get(str(value).strip().lower())
    if given is None:
        missing = is_missing(value) or not str(value).strip()
        problem, way_out = f"column {name!r} is {value!r}", "the values of a label's column must be 0 or 1"
        raise RowError(row.place, problem, way_out, missing=missing)
    return given


def label_order(rows: Iterable[Labelled]) -> tuple[str, ...]:
    """The labels that occur, sorted: numbers by value, names alphabetically."""
    labels = {label for row in rows for label in row.labels}
    if all(map(is_number, labels)):
        return tuple(sorted(labels, key=lambda label: (int(label), label)))
    return tuple(sorted(labels))


def is_number(label: str) -> bool:
    """Whether a label is a number."""
    digits = label.removeprefix("-")
    return digits.isdecimal() and len(digits) <= MAX_DIGITS


def read_label_order(path: Path) -> tuple[str, ...]:
    """Label names in the order of their numbers, from lines of `name number`."""
    numbered = []
    for place, line in _lines(path):
        name, _, index = line.rpartition(" ")
        if not name or not is_number(index):
            raise DataError(f"{place}: expected a name and a number, found {line!r}")
        numbered.append((int(index), name.strip()))
    names = dict(sorted(numbered))
    if list(names) != list(range(len(numbered))) or len(set(names.values())) < len(names):
        raise DataError(f"{path}: the numbers must run from 0 to {len(numbered) - 1}, without duplicate names")
    return tuple(names.values())


def read_label_tree(path: Path) -> tuple[tuple[str, str], ...]:
    """Pairs of child and parent from lines of both with a tab between them; a parent may have parents."""
    pairs = []
    for place, line in _lines(path):
        names = [name.strip() for name in line.split("\t")]
        if len(names) != 2 or not all(names):
            raise DataError(f"{place}: expected a child, a tab and its parent, found {line!r}")
        pairs.append((names[0], names[1]))
    return tuple(pairs)


def _lines(path: Path) -> list[tuple[str, str]]:
    """Place and text of each line that is not blank."""
    lines = enumerate(utf8_lines(path), start=1)
    return [(f"{path}, line {number}", line.strip()) for number, line in lines if line.strip()]
