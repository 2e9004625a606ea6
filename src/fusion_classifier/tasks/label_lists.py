"""Lists of labels in text cells, in the notation of JSON, Python, numpy and PostgreSQL."""

import ast
import json
import re

# What Python and numpy write around a list: array([…], dtype=object), frozenset({…}), set().
WRAPPED = re.compile(r"(?:array|list|tuple|set|frozenset)\((.*?)(?:,\s*dtype=[\w'<>.]+)?\)", re.DOTALL)
SCALAR = re.compile(r"(?:np|numpy)\.\w+\(([^()]*)\)")  # an element of numpy 2: np.str_('joy'), np.int64(3)
QUOTED = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""
ELEMENT = re.compile(rf"\s*({QUOTED}|[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.]))(\s*,\s*|\s+|$)", re.DOTALL)
POSTGRES = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[^",{}\\]+?)\s*(,|$)', re.DOTALL)
PAIRS = {"[": "]", "(": ")", "{": "}"}


def parse_list(cell: str) -> list[object] | None:
    """The elements of a list; None if the cell is not written as one.

    Raises:
        ValueError: the cell has the brackets of a list, but not its elements, such as [joy, calm] without quotes.
    """
    text = cell.strip()
    if wrapped := WRAPPED.fullmatch(text):
        text = wrapped[1].strip() or "[]"
    if len(text) < 2 or PAIRS.get(text[0]) != text[-1]:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, list):
        return _flat(found)
    inner = SCALAR.sub(r"\1", text[1:-1]).strip()
    elements = _elements(inner)
    if text[0] == "(":  # (other) is a name
        return elements if elements is not None and "," in inner else None
    if elements is None and text[0] == "{":
        elements = _postgres(inner)
    if elements is None:
        raise ValueError(cell)
    return elements


def _flat(found: list[object]) -> list[object]:
    if any(isinstance(one, list | dict) or one is None for one in found):
        raise ValueError(found)
    return found


def _elements(inner: str) -> list[object] | None:
    """Quoted strings and numbers separated by commas (Python) or spaces (numpy); None for anything else."""
    found: list[object] = []
    separators = set()
    position = 0
    while position < len(inner):
        match = ELEMENT.match(inner, position)
        if match is None:
            return None
        position = match.end()
        if match[2]:
            separators.add(match[2].strip())
        try:
            found.append(ast.literal_eval(match[1]))
        except (ValueError, SyntaxError):
            return None
    return found if len(separators) < 2 else None


def _postgres(inner: str) -> list[object] | None:
    """Words separated by commas, in double quotes if necessary; None for anything else."""
    found: list[object] = []
    position = 0
    while position < len(inner):
        match = POSTGRES.match(inner, position)
        if match is None or match[1] == "NULL":
            return None
        position = match.end()
        word = match[1]
        found.append(re.sub(r"\\(.)", r"\1", word[1:-1]) if word[0] == '"' else word)
        if match[2] and position == len(inner):  # a comma at the end
            return None
    return found
