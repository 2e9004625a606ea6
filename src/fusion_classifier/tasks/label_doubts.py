"""Whether labels look like something else: ids, dates, quantities, parts of lists. Said before any extraction."""

import unicodedata
from collections import Counter
from datetime import datetime

from fusion_classifier.tasks.labels import is_number
from fusion_classifier.tasks.loaded import LoadedTask
from fusion_classifier.tasks.quality import label_indices

MIN_LABELS = 5  # with fewer, rare labels say little
MIN_QUANTITIES = 10  # different numbers with decimals
MIN_NUMBERS = 20  # consecutive ones that are doubtful where rows are few for each
FEW_ROWS = 5  # for each number
DATES = (
    "%d.%m.%Y",
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%Y/%m/%d",
    "%Y%m%d",
    "%d.%m.%y",
    "%d-%m-%Y",
    "%d %b %Y",
    "%d %B %Y",
    "%B %d, %Y",
)
BRACKETS = tuple("[]{}\"'")  # at the ends of a label
MISSING = {"None", "null", "NULL", "NA", "N/A"}  # as programs write a missing value
SEPARATORS = "|;"  # between labels
WAY_OUT = "is `label_column` the right one?"


def label_doubts(task: LoadedTask) -> list[str]:
    """Sentences about labels that are hardly classes, of rows of all splits; none for most data."""
    # Cross-validated, the rows of validation are those of train.
    parts = [part for name, part in task.splits.items() if not (task.cross_validated and name == "valid")]
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
            f"{len(ends):,} labels have brackets or quotes at their ends, such as {ends[0]!r}; "
            "was a list of labels cut? (several per text: `multilabel` and `label_separator`)"
        )
    if missing := [name for name in names if name in MISSING]:
        found.append(
            f"The label {missing[0]!r} looks like a missing value; if it is, empty the cell or remove the row"
        )
    written: dict[str, list[str]] = {}
    for name in names:
        written.setdefault(" ".join(unicodedata.normalize("NFKC", name).casefold().split()), []).append(name)
    if alike := [forms for forms in written.values() if len(forms) > 1]:
        more = f", and {len(alike) - 1:,} more labels" if len(alike) > 1 else ""
        shown = " and ".join(map(repr, alike[0]))
        found.append(f"The labels {shown}{more} differ only in case, spaces or form of letters; are they one label?")
    joined = next((name for name in names if not several and any(mark in name.strip() for mark in SEPARATORS)), None)
    if joined is not None:
        found.append(
            f"No text has several labels, and {joined!r} looks like several; "
            "if it is, set `multilabel` and `label_separator`"
        )
    return found


def _doubt(names: list[str], rows: int, single: int) -> str | None:
    """What labels on so many rows, of which so many have a single one, look like."""
    count = f"{len(names):,}"
    if all(map(_is_date, names)):
        return f"All {count} labels are dates"
    if len(names) > rows / 2:
        return f"The labels look like ids: {count} different ones on {rows:,} rows"
    if single > len(names) / 2:
        return f"The labels look like ids or free text: {single:,} of {count} have one row"
    if len(names) >= MIN_QUANTITIES and _are_quantities(names):
        return f"The labels look like a quantity: all {count} are numbers, some with decimals"
    if len(names) >= MIN_NUMBERS and rows < FEW_ROWS * len(names) and _are_consecutive(names):
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
