"""Progress bars with rate and remaining time on a terminal; silence elsewhere.

All of it goes to standard error, so that standard output holds results only.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text


class RateColumn(ProgressColumn):
    """Items a second."""

    def render(self, task: Task) -> Text:
        """The rate, or nothing before the first item."""
        speed = task.finished_speed or task.speed
        return Text("" if not speed else f"{speed:,.0f}/s" if speed >= 10 else f"{speed:.1f}/s", style="magenta")


@dataclass(frozen=True)
class Bar:
    """One running bar."""

    rich: RichProgress
    task: TaskID

    def advance(self, steps: float = 1) -> None:
        """So many items more are done."""
        self.rich.advance(self.task, steps)

    def finish(self) -> None:
        """All is done, though it took fewer steps than thought."""
        completed = next(task.completed for task in self.rich.tasks if task.id == self.task)
        self.rich.update(self.task, total=completed)

    def describe(self, text: str) -> None:
        """Another text beside the bar."""
        self.rich.update(self.task, description=text)


class Progress:
    """Makes bars on one console."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)

    @contextmanager
    def bar(self, description: str, total: int | None) -> Iterator[Bar]:
        """A bar for the time of a `with` block; without a total, a spinner."""
        columns: list[ProgressColumn] = [SpinnerColumn(), TextColumn("{task.description}")]
        if total is not None:
            columns += [BarColumn(), MofNCompleteColumn(), RateColumn(), TimeRemainingColumn()]
        columns.append(TimeElapsedColumn())
        shown = self.console.is_terminal
        with RichProgress(*columns, console=self.console, disable=not shown, transient=total is None) as rich:
            yield Bar(rich, rich.add_task(description, total=total))


QUIET = Progress(Console(stderr=True, quiet=True, force_terminal=False))
