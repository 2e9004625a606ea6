"""Checks of texts for encodability, and lists and numbers in sentences."""

from collections.abc import Sequence


def surrogate_position(text: str) -> int | None:
    """Position, from 1, of the first half of a surrogate pair, which UTF-8 can't encode; None if there is none."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return error.start + 1
    return None


def first_few(items: Sequence[object], most: int) -> str:
    """The first `most` items, separated by commas, with "…" at the end if there are more."""
    return ", ".join(map(str, items[:most])) + (", …" if len(items) > most else "")


def counted(number: int, noun: str) -> str:
    """A number with its noun: "1 row", "1,234 rows"."""
    return f"{number:,} {noun}{'s'[: number != 1]}"


def size(count: float) -> str:
    """Format a number of bytes, such as "1.5 MB"."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def duration(seconds: float) -> str:
    """Format a time, such as "12.3 s" or "2 min 05 s"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
