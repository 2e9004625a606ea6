"""Progress on standard error: bars on a terminal, lines that are updated in place in a notebook; elsewhere, if asked
for, one line per minute.

Standard output is for results only. rich is imported when something is shown.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING

from fusion_classifier.support.text import duration

if TYPE_CHECKING:
    from rich import progress
    from rich.console import Console

# ruff: noqa: PLC0415

LINE_SECONDS = 60.0  # interval between lines without a terminal
HTML_SECONDS = 0.3  # minimum interval between updates in a notebook
WIDE = 110  # columns of a terminal that has room for a long bar
NARROW_COLUMNS = 48  # that a short bar, counts, rate and time take
MIN_DESCRIPTION = 20  # characters


class Bar:
    """A running progress bar; without a rich bar, it shows nothing.

    Args:
        rich: The bar.
        lines: Whether to print one line per minute or, without a total, each new text.
        update: Called at intervals with the HTML of the state.
        room: Maximum number of characters of the text next to the bar.
    """

    def __init__(
        self,
        rich: "progress.Progress | None" = None,
        *,
        lines: bool = False,
        update: Callable[[str], None] | None = None,
        room: int = 1000,
    ) -> None:
        self.rich = rich
        self.lines = lines
        self.update = update
        self.room = room
        self.started = self.printed = time.monotonic()

    def advance(self, steps: float = 1) -> None:
        """Count finished steps."""
        if self.rich:
            self.rich.advance(self.rich.task_ids[0], steps)
        passed = time.monotonic() - self.printed
        if self.lines and passed >= LINE_SECONDS and self.rich and self.rich.tasks[0].total is not None:
            self.print_line()
        if self.update and passed >= HTML_SECONDS:
            self.show_html()

    def finish(self) -> None:
        """Fill the bar: the work ended in fewer steps than expected."""
        if self.rich:
            self.rich.update(self.rich.task_ids[0], total=self.rich.tasks[0].completed)

    def describe(self, text: str) -> None:
        """Change the text next to the bar."""
        if self.rich:
            self.rich.update(self.rich.task_ids[0], description=shortened(text, self.room))
            if self.lines and self.rich.tasks[0].total is None:
                self._print(text)

    def show_html(self) -> None:
        """Show the state in a notebook; work without a total only while it runs."""
        assert self.rich is not None
        assert self.update is not None
        task = self.rich.tasks[0]
        if task.total is None:
            self.update(f"{escape(task.description)} …")
            return
        bar = f'<progress value="{task.completed}" max="{task.total}"></progress> '
        self.update(bar + escape(self.line()))

    def line(self) -> str:
        """The state as a line, with the expected remaining time."""
        assert self.rich is not None
        self.printed = time.monotonic()
        task, seconds = self.rich.tasks[0], self.printed - self.started
        done, total, speed = task.completed, task.total or 0, task.completed / max(seconds, 1e-9)
        state = f"{task.description}: {done:,.0f} of {total:,.0f} in {seconds:,.{int(seconds < 10)}f} s"
        left = f"{duration((total - done) / speed)} left" if 0 < done < total else ""
        return ", ".join(filter(None, (state, rate(speed), left)))

    def print_line(self) -> None:
        """Print the state as a line."""
        self._print(self.line())

    def _print(self, text: str) -> None:
        assert self.rich is not None
        self.rich.console.print(text, highlight=False, markup=False, soft_wrap=True)


class Progress:
    """Makes progress bars.

    Args:
        console: Console to write to. Default: standard error.
        lines: Whether to print one line per minute, and one at the end of each bar, without a terminal.
        quiet: Whether to show nothing.
    """

    def __init__(self, console: "Console | None" = None, *, lines: bool = False, quiet: bool = False) -> None:
        self.lines, self.quiet = lines, quiet
        if console is not None:
            self.console = console

    @cached_property
    def console(self) -> "Console":
        """The console; `console.print` writes above the progress bars."""
        from rich.console import Console

        return Console(stderr=True, quiet=self.quiet)

    def say(self, message: str) -> None:
        """Print a message above the bars."""
        self.console.print(message, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def bar(self, description: str, total: int | None) -> Iterator[Bar]:
        """Show a bar while a `with` block runs; without a total, a spinner."""
        if self.quiet:
            yield Bar()
            return
        from rich import progress

        narrow, shown = self.console.width < WIDE, self.console.is_terminal
        room = max(self.console.width - NARROW_COLUMNS, MIN_DESCRIPTION) if narrow and shown else 1000
        columns: list[progress.ProgressColumn] = [progress.SpinnerColumn(), progress.TextColumn("{task.description}")]
        if total is not None:
            columns.append(progress.BarColumn(10 if narrow else 40))
            columns += [progress.MofNCompleteColumn(), _rate_column(), progress.TimeRemainingColumn(compact=narrow)]
        if total is None or not narrow:
            columns.append(progress.TimeElapsedColumn())
        with progress.Progress(*columns, console=self.console, disable=not shown, transient=total is None) as rich:
            rich.add_task(shortened(description, room), total=total)
            update = _notebook_line() if self.console.is_jupyter else None
            bar = Bar(rich, lines=self.lines and not shown, update=update, room=room)
            if update:
                bar.show_html()
            yield bar
            if bar.lines and total is not None:
                bar.print_line()
            if update:
                update("" if total is None else escape(bar.line()))


def shortened(text: str, room: int) -> str:
    """A text truncated to at most `room` characters."""
    return text if len(text) <= room else f"{text[: room - 1]}…"


def _notebook_line() -> Callable[[str], None]:
    """A new line of a notebook's output; the function replaces its HTML."""
    from IPython.display import HTML, display

    shown = display(HTML(""), display_id=True)
    return lambda html: shown.update(HTML(html))


def rate(speed: float) -> str:
    """Steps per second as text; nothing before the first step."""
    if not speed:
        return ""
    return f"{speed:,.0f}/s" if speed >= 10 else f"{speed:.1g}/s" if speed < 0.1 else f"{speed:.1f}/s"


def _rate_column() -> "progress.ProgressColumn":
    from rich import progress
    from rich.text import Text

    class RateColumn(progress.ProgressColumn):
        """Items per second."""

        def render(self, task: progress.Task) -> Text:
            """The rate; empty before the first item."""
            return Text(rate(task.finished_speed or task.speed or 0), style="magenta")

    return RateColumn()


QUIET = Progress(quiet=True)
