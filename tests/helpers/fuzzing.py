"""What the tests of this folder feed to readers, and what they may answer."""

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from command import fec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusion_classifier.errors import FecError

__all__ = [
    "EXAMPLES",
    "ODD",
    "anything",
    "command_ends",
    "damaged",
    "encoded",
    "fuzzed",
    "given",
    "mutated",
    "settled",
    "st",
]

EXAMPLES = int(os.environ.get("FEC_FUZZ_EXAMPLES", "40"))
fuzzed = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
ODD = [
    "\x00",
    "\ufeff",
    "\u202e",
    "\u2028",
    "\r",
    '"',
    "🧟",
    "a" * 70_000,
    "9" * 5000,
    "\x1b[2J",
    "",
    " ",
    "NaN",
    ",",
    "é",
]
PIECES = [
    *(piece.encode() for piece in ODD),
    *[
        b"text",
        b"label",
        b"\n",
        b",",
        b"\t",
        b";",
        b"\xff\xfe",
        b"\xed\xa0\x80",
        b"\x1f\x8b",
        b"PAR1",
        b"{",
        b"}",
        b"[",
        b":",
    ],
    *[b'{"text": "a", "label": "b"}\n', b'{"text": 1, "label": null}\n', b'{"text": "\\ud800", "label": "b"}\n'],
    *[b"text,label\n", b"a,b\n", b"c,d,e\n", b'"x\ny",z\n', b"text,text\n", b"label,text\r\n", b"1e999,True\n"],
]
anything = st.one_of(st.binary(max_size=200), st.lists(st.sampled_from(PIECES), max_size=25).map(b"".join))
encoded = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1", "cp1252"])


def settled(work: Callable[[], Any]) -> str | None:
    """What is said where it fails: a sentence that is no page and holds nothing that steers a terminal."""
    try:
        work()
    except FecError as error:
        said = str(error)
        assert said.strip()
        assert len(said) < 2000
        assert "Traceback" not in said
        return said
    return None


def command_ends(arguments: list[str], folder: Path) -> int:
    """Run `fec` there, in this process; it ends as its documentation says, or the test fails. Its exit code."""
    done = fec(*arguments, cwd=folder)
    assert done.returncode in (0, 1, 2)
    assert "Traceback" not in done.stderr
    assert done.stderr.strip() or not done.returncode
    return done.returncode


def damaged(data: bytes, draw: random.Random) -> bytes:
    """Cut short, or with a few bytes changed, most of them near the beginning."""
    if not data or draw.random() < 0.3:
        return data[: draw.randrange(len(data) + 1)]
    changed = bytearray(data)
    for _ in range(draw.choice([1, 5])):
        changed[draw.randrange(draw.choice([min(100, len(data)), len(data)]))] ^= draw.randrange(1, 256)
    return bytes(changed)


def mutated(value: Any, draw: random.Random) -> Any:
    """The same, with one part exchanged for something odd."""
    odd: list[Any] = [
        None,
        -1,
        2**63,
        1e308,
        float("nan"),
        "",
        "../../etc/passwd",
        [],
        {},
        [[]],
        "x" * 1000,
        True,
        {"__class__": "os"},
    ]
    if isinstance(value, dict) and value and draw.random() < 0.9:
        key = draw.choice(list(value))
        if draw.random() < 0.1:
            return {k: v for k, v in value.items() if k != key}
        return value | {key: mutated(value[key], draw)}
    if isinstance(value, list) and value and draw.random() < 0.8:
        place = draw.randrange(len(value))
        return [*value[:place], mutated(value[place], draw), *value[place + 1 :]]
    return draw.choice(odd)
