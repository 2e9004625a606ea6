"""Checks of texts for encodability."""


def surrogate_position(text: str) -> int | None:
    """Position, from 1, of the first half of a surrogate pair, which UTF-8 can't encode; None if there is none."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return error.start + 1
    return None
