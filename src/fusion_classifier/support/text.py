"""Checks of texts for encodability, and numbers in sentences."""


def surrogate_position(text: str) -> int | None:
    """Position, from 1, of the first half of a surrogate pair, which UTF-8 can't encode; None if there is none."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return error.start + 1
    return None


def counted(number: int, noun: str) -> str:
    """A number with its noun: "1 row", "1,234 rows"."""
    return f"{number:,} {noun}{'s'[: number != 1]}"
