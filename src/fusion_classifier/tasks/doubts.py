"""Whether labels look like something else: ids, dates, quantities, parts of lists, two labels in one; and whether
texts look like missing values. Reported before features are extracted.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable
from datetime import datetime

from fusion_classifier.support.text import counted, first_few
from fusion_classifier.tasks.labels import MISSING as AS_PANDAS
from fusion_classifier.tasks.labels import is_number, shown_places
from fusion_classifier.tasks.loaded import LoadedTask, RowPlace, Split, label_indices

MIN_LABELS = 5  # with fewer, rare labels are no evidence
MIN_QUANTITIES = 10  # different numbers with decimals
MIN_NUMBERS = 20  # consecutive ones that are doubtful where rows are few for each
ROWS_PER_NUMBER = 5  # with fewer, they are few
DATES = (
    "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%Y%m%d", "%d.%m.%y", "%d-%m-%Y", "%d %b %Y", "%d %B %Y",
    "%B %d, %Y",
)  # fmt: skip
BRACKETS = tuple("[]{}\"'")  # at the ends of a label
# As programs write a missing value: Python, databases, spreadsheets; in lower case some are words.
MISSING = {"None", "null", "NULL", "(null)", "NA", "N/A", "n/a", "#N/A", "#NA", "\\N", "-", "--", "?", "(blank)"}
SEPARATORS = "|;"  # between labels
JOINTS = re.compile(r"[/;|+]")  # between two labels in one cell
MAX_SHOWN = 4  # labels, or groups of labels, in a message
END = re.compile(r"[,;\t|]([^,;\t|]+)$")  # the last cell of a line
WAY_OUT = "is `label_column` the right one?"


def data_doubts(task: LoadedTask) -> list[str]:
    """Warnings about suspicious labels and texts; none for most data."""
    # Cross-validated, the rows of validation are those of train.
    parts = [part for name, part in task.splits.items() if not (task.cross_validated and name == "valid")]
    doubts = _label_doubts(task, parts) + _joined(task, parts) + _missing_texts(parts)
    return doubts + _joined_rows([text for part in parts for text in part.texts], set(task.labels))


def _label_doubts(task: LoadedTask, parts: list[Split]) -> list[str]:
    counts = Counter(i for part in parts for label in part.labels for i in label_indices(label))
    names = [task.labels[i] for i in counts]
    doubts = _notation(names, several=any(len(label_indices(label)) > 1 for part in parts for label in part.labels))
    if len(counts) < MIN_LABELS:
        return doubts
    doubt = _doubt(names, counts.total(), sum(count == 1 for count in counts.values()))
    return doubts + ([f"{doubt}, such as {names[0]!r}; {WAY_OUT}"] if doubt else [])


def _notation(names: list[str], *, several: bool) -> list[str]:
    """Doubts about names that look like missing values or parts of a notation."""
    found = []
    ends = [
        name
        for name in names
        if name.startswith(BRACKETS) or name.endswith(BRACKETS) or name.count("(") != name.count(")")
    ]
    if ends:
        found.append(
            f"{counted(len(ends), 'label')} with brackets or quotes at the start or end, such as {ends[0]!r}; "
            "was a list of labels cut? (several per text: `multilabel` and `label_separator`)"
        )
    if missing := [name for name in names if name in MISSING]:
        found.append(
            f"The label {missing[0]!r} looks like a missing value; if it is, empty the cell or remove the row"
        )
    written: dict[str, list[str]] = {}
    for name in names:
        written.setdefault(_alike(name), []).append(name)
    if alike := [forms for forms in written.values() if len(forms) > 1]:
        more = f"; and {len(alike) - MAX_SHOWN:,} more groups" if len(alike) > MAX_SHOWN else ""
        groups = "; ".join(", ".join(map(repr, forms)) for forms in alike[:MAX_SHOWN])
        found.append(
            f"These labels differ only in case, spaces or Unicode form: {groups}{more}. If they are the same label, "
            "write it in one way in your file"
        )
    whole = set(map(_alike, names))
    joined = [name for name in names if any(mark in name for mark in SEPARATORS) and not _halves(name, whole)]
    if joined and not several:
        found.append(
            f"No text has several labels, and {joined[0]!r} looks like several; "
            "if it is, set `multilabel` and `label_separator`"
        )
    return found


def _alike(name: str) -> str:
    """A label for comparison, ignoring case, spaces and form of letters."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def _halves(name: str, whole: set[str]) -> bool:
    """Whether a label is several other labels with a separator between them, such as billing/shipping."""
    parts = [_alike(part) for part in JOINTS.split(name)]
    return len(parts) > 1 and all(part in whole for part in parts)


def _joined(task: LoadedTask, parts: list[Split]) -> list[str]:
    """A doubt about labels that are several other labels in one cell."""
    whole = set(map(_alike, task.labels))
    both = {i for i, name in enumerate(task.labels) if _halves(name, whole)}
    places = [
        place
        for part in parts
        for label, place in zip(part.labels, part.places, strict=True)
        if both & set(label_indices(label))
    ]
    if not places:
        return []
    shown = first_few([repr(task.labels[i]) for i in sorted(both)], MAX_SHOWN)
    return [
        f"Several labels seem to be in one cell, such as {shown} "
        f"({_by_file(places)}); write one label there, or set `multilabel` and `label_separator`"
    ]


def _missing_texts(parts: list[Split]) -> list[str]:
    """A doubt about texts that are a missing value as programs write it."""
    found = [
        (text.strip(), place)
        for part in parts
        for text, place in zip(part.texts, part.places, strict=True)
        if text.strip().casefold() in AS_PANDAS or text.strip() in MISSING
    ]
    if not found:
        return []
    places = _by_file([place for _, place in found])
    return [
        f"{counted(len(found), 'text')} like {found[0][0]!r}, which programs write for a missing value ({places}), "
        "kept as text; if they are missing values, empty the cells or remove the rows"
    ]


def _by_file(places: list[RowPlace]) -> str:
    """Files and lines in a few words."""
    files: dict[str, list[RowPlace]] = {}
    for place in places:
        files.setdefault(place.file, []).append(place)
    return "; ".join(
        f"{file}, {shown_places(there)}" if file else shown_places(there) for file, there in files.items()
    )


def _joined_rows(texts: Iterable[str], names: Collection[str]) -> list[str]:
    """A doubt about texts of several lines of which at least half end in a separator and a label."""
    found = []
    for text in texts:
        lines = text.split("\n")[:-1]
        ends = [END.search(line.rstrip()) for line in lines]
        if lines and sum(end is not None and end[1].strip("\"' ") in names for end in ends) * 2 >= len(lines):
            found.append(lines[0])
    if not found:
        return []
    return [
        f"{counted(len(found), 'text')} with lines that end in a label, such as {found[0][:60]!r}; "
        "has a stray quotation mark joined rows of the file?"
    ]


def _doubt(names: list[str], rows: int, single: int) -> str | None:
    """What the labels seem to be, given the number of rows and of labels with a single row."""
    count = f"{len(names):,}"
    if all(map(_is_date, names)):
        return f"All {count} labels are dates"
    if len(names) > rows / 2:
        return f"The labels look like ids: {count} different ones on {rows:,} rows"
    if single > len(names) / 2:
        return f"The labels look like ids or free text: {single:,} of {count} have one row"
    if len(names) >= MIN_QUANTITIES and _are_quantities(names):
        return f"The labels look like a quantity: all {count} are numbers, some with decimals"
    if len(names) >= MIN_NUMBERS and rows < ROWS_PER_NUMBER * len(names) and _are_consecutive(names):
        return f"The labels look like ids: {count} consecutive numbers with {rows / len(names):.1f} rows each"
    return None


def _is_date(label: str) -> bool:
    if is_number(label) and len(label) != len("20240131"):
        return False
    try:
        datetime.fromisoformat(label)
    except ValueError:
        return any(_parses(label, form) for form in DATES)
    return True


def _parses(label: str, form: str) -> bool:
    try:
        datetime.strptime(label, form)
    except ValueError:
        return False
    return True


def _are_quantities(labels: list[str]) -> bool:
    try:
        values = [float(label) for label in labels]
    except ValueError:
        return False
    return any(value % 1 for value in values)


def _are_consecutive(labels: list[str]) -> bool:
    if not all(map(is_number, labels)):
        return False
    numbers = sorted({int(label) for label in labels})
    return numbers[-1] - numbers[0] == len(numbers) - 1
