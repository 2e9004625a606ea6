"""Progress on standard error: bars on a terminal; elsewhere, if asked for, a line per minute.

Standard output holds results only.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich import progress
from rich.console import Console
from rich.text import Text

LINE_SECONDS = 60.0  # between two lines where there is no terminal


class RateColumn(progress.ProgressColumn):
    """Items per second."""

    def render(self, task: progress.Task) -> Text:
        """The rate, or nothing before the first item."""
        speed = task.finished_speed or task.speed
        return Text("" if not speed else f"{speed:,.0f}/s" if speed >= 10 else f"{speed:.1f}/s", style="magenta")


@dataclass
class Bar:
    """A running progress bar."""

    rich: progress.Progress
    task: progress.TaskID
    lines: bool = False
    started: float = field(default_factory=time.monotonic)
    printed: float = field(default_factory=time.monotonic)

    def advance(self, steps: float = 1) -> None:
        """Count finished steps."""
        self.rich.advance(self.task, steps)
        if self.lines and time.monotonic() - self.printed >= LINE_SECONDS:
            self.print_line()

    def print_line(self) -> None:
        """Print the state as a line."""
        self.printed = time.monotonic()
        task, seconds = self.rich.tasks[0], self.printed - self.started
        done = f"{task.completed:,.0f} of {task.total or 0:,.0f}"
        line = f"{task.description}: {done} in {seconds:.0f} s, {task.completed / max(seconds, 1e-9):,.0f}/s"
        self.rich.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def finish(self) -> None:
        """Fill the bar: the work ended in fewer steps than expected."""
        self.rich.update(self.task, total=self.rich.tasks[0].completed)

    def describe(self, text: str) -> None:
        """Change the text beside the bar."""
        self.rich.update(self.task, description=text)


class Progress:
    """Makes progress bars on a console.

    Args:
        console: Where. Default: standard error.
        lines: Without a terminal, print a line per minute and one at the end of each bar.
    """

    def __init__(self, console: Console | None = None, *, lines: bool = False) -> None:
        self.console = console or Console(stderr=True)
        self.lines = lines and not self.console.is_terminal

    @contextmanager
    def bar(self, description: str, total: int | None) -> Iterator[Bar]:
        """Show a bar while a `with` block runs; without a total, a spinner."""
        columns: list[progress.ProgressColumn] = [progress.SpinnerColumn(), progress.TextColumn("{task.description}")]
        if total is not None:
            columns += [progress.BarColumn(), progress.MofNCompleteColumn(), RateColumn()]
            columns.append(progress.TimeRemainingColumn())
        columns.append(progress.TimeElapsedColumn())
        shown = self.console.is_terminal
        with progress.Progress(*columns, console=self.console, disable=not shown, transient=total is None) as rich:
            bar = Bar(rich, rich.add_task(description, total=total), self.lines and total is not None)
            yield bar
            if bar.lines:
                bar.print_line()


QUIET = Progress(Console(stderr=True, quiet=True, force_terminal=False))
