"""Progress on standard error: bars on a terminal; elsewhere, optionally, one line per minute.

Standard output is for results only. rich is imported when something is shown.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich import progress
    from rich.console import Console

# ruff: noqa: PLC0415

LINE_SECONDS = 60.0  # interval between lines without a terminal


class Bar:
    """A running progress bar; without a rich bar, it shows nothing."""

    def __init__(self, rich: "progress.Progress | None" = None, *, lines: bool = False) -> None:
        self.rich = rich
        self.lines = lines
        self.started = self.printed = time.monotonic()

    def advance(self, steps: float = 1) -> None:
        """Count finished steps."""
        if self.rich:
            self.rich.advance(self.rich.task_ids[0], steps)
        if self.lines and time.monotonic() - self.printed >= LINE_SECONDS:
            self.print_line()

    def finish(self) -> None:
        """Fill the bar: the work ended in fewer steps than expected."""
        if self.rich:
            self.rich.update(self.rich.task_ids[0], total=self.rich.tasks[0].completed)

    def describe(self, text: str) -> None:
        """Change the text next to the bar."""
        if self.rich:
            self.rich.update(self.rich.task_ids[0], description=text)

    def print_line(self) -> None:
        """Print the state as a line."""
        assert self.rich is not None
        self.printed = time.monotonic()
        task, seconds = self.rich.tasks[0], self.printed - self.started
        done = f"{task.completed:,.0f} of {task.total or 0:,.0f} in {seconds:,.{int(seconds < 10)}f} s"
        line = ", ".join(filter(None, (f"{task.description}: {done}", rate(task.completed / max(seconds, 1e-9)))))
        self.rich.console.print(line, highlight=False, markup=False, soft_wrap=True)


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

    @contextmanager
    def bar(self, description: str, total: int | None) -> Iterator[Bar]:
        """Show a bar while a `with` block runs; without a total, a spinner."""
        if self.quiet:
            yield Bar()
            return
        from rich import progress

        columns: list[progress.ProgressColumn] = [progress.SpinnerColumn(), progress.TextColumn("{task.description}")]
        if total is not None:
            columns += [progress.BarColumn(), progress.MofNCompleteColumn(), _rate_column()]
            columns.append(progress.TimeRemainingColumn())
        columns.append(progress.TimeElapsedColumn())
        shown = self.console.is_terminal
        with progress.Progress(*columns, console=self.console, disable=not shown, transient=total is None) as rich:
            rich.add_task(description, total=total)
            bar = Bar(rich, lines=self.lines and not shown and total is not None)
            yield bar
            if bar.lines:
                bar.print_line()


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
