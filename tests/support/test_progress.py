"""Progress where there is no terminal: lines for a batch job's log, and nothing for a library's caller."""

import io
import sys
import types

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
    lines = said(lines=True)
    assert [line.split(" in ")[0] for line in lines] == ["encoding: 2 of 4", "encoding: 4 of 4", "encoding: 4 of 4"]
    assert [line.endswith("s left") for line in lines] == [True, False, False]


def test_without_a_total_each_new_text_is_a_line() -> None:
    stream = io.StringIO()
    with Progress(Console(file=stream), lines=True).bar("optimizing", total=None) as bar:
        bar.describe("making int8")
        bar.advance()
    assert stream.getvalue().splitlines() == ["making int8"]


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


@pytest.mark.parametrize("description", ["encoding with all-MiniLM-L6-v2?layers=2,4,6&pooling=tokens", "predicting"])
def test_a_bar_fits_into_80_columns(description: str) -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=80, legacy_windows=False, color_system=None)
    with Progress(console).bar(description, total=123_456) as bar:
        bar.advance(61_728)
        bar.describe(f"{description} · epoch 12 · valid weighted F1 0.912")
        assert bar.rich is not None
        bar.rich.refresh()
    line = [part for part in stream.getvalue().splitlines() if "61728/123456" in part][-1]
    assert description[:19] in line
    assert "━" in line


def test_a_notebook_gets_one_line_per_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[list[str]] = []

    class Handle:
        def __init__(self) -> None:
            shown.append([])

        def update(self, html: str) -> None:
            shown[-1].append(html)

    display = types.ModuleType("IPython.display")
    display.HTML = str  # type: ignore[attr-defined]
    display.display = lambda _, display_id: Handle()  # type: ignore[attr-defined]  # noqa: ARG005
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setattr(progress, "HTML_SECONDS", 0.0)
    stream = io.StringIO()
    bars = Progress(Console(file=stream, force_jupyter=True))
    with bars.bar("loading <b>", total=None):
        pass
    with bars.bar("encoding", total=4) as bar:
        bar.advance(4)
    assert shown[0] == ["loading &lt;b&gt; …", ""], "gone when it is done"
    assert shown[1][0].startswith('<progress value="0" max="4"></progress> encoding: 0 of 4')
    assert shown[1][-1].startswith("encoding: 4 of 4 in ")
    assert stream.getvalue() == ""
