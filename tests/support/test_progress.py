"""Progress where there is no terminal: lines for a batch job's log, and nothing for a library's caller."""

import io

import pytest
from rich.console import Console

from fusion_classifier.support import progress
from fusion_classifier.support.progress import Progress


def said(*, lines: bool, total: int | None = 4) -> list[str]:
    stream = io.StringIO()
    with Progress(Console(file=stream), lines=lines).bar("encoding", total=total) as bar:
        bar.advance(2)
        bar.advance(2)
    return stream.getvalue().splitlines()


def test_without_a_terminal_a_bar_is_one_line_at_its_end() -> None:
    (line,) = said(lines=True)
    assert line.startswith("encoding: 4 of 4 in ")


def test_a_bar_that_takes_long_is_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    assert [line.split(" in ")[0] for line in said(lines=True)] == [
        "encoding: 2 of 4",
        "encoding: 4 of 4",
        "encoding: 4 of 4",
    ]


def test_nothing_is_printed_unless_asked_for() -> None:
    assert said(lines=False) == []
    assert said(lines=True, total=None) == []


def test_what_fails_is_not_reported_as_done() -> None:
    stream = io.StringIO()

    def fail() -> None:
        with Progress(Console(file=stream), lines=True).bar("encoding", total=4) as bar:
            bar.advance(2)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("speed", "said"), [(0, ""), (0.0333, "0.03/s"), (0.52, "0.5/s"), (3.456, "3.5/s"), (1234.5, "1,234/s")]
)
def test_a_slow_rate_is_not_zero(speed: float, said: str) -> None:
    assert progress.rate(speed) == said
