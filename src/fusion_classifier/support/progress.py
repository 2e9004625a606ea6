"""Progress bars with rate and remaining time on a terminal; elsewhere, if asked for, a line now and then.

All of it goes to standard error, so that standard output holds results only.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

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


LINE_SECONDS = 60.0  # between two lines of one bar, where there is no terminal to draw it on


@dataclass
class Bar:
    """One running bar."""

    rich: RichProgress
    task: TaskID
    lines: bool = False
    started: float = field(default_factory=time.monotonic)
    said: float = field(default_factory=time.monotonic)

    def advance(self, steps: float = 1) -> None:
        """So many items more are done."""
        self.rich.advance(self.task, steps)
        if self.lines and time.monotonic() - self.said >= LINE_SECONDS:
            self.say()

    def say(self) -> None:
        """Where it stands, as a line."""
        now = time.monotonic()
        task = next(task for task in self.rich.tasks if task.id == self.task)
        self.said, seconds = now, now - self.started
        done = f"{task.completed:,.0f} of {task.total or 0:,.0f}"
        rate = task.completed / seconds if seconds > 0 else 0
        self.rich.console.print(
            f"{task.description}: {done} in {seconds:.0f} s, {rate:,.0f}/s",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )

    def finish(self) -> None:
        """All is done, though it took fewer steps than thought."""
        completed = next(task.completed for task in self.rich.tasks if task.id == self.task)
        self.rich.update(self.task, total=completed)

    def describe(self, text: str) -> None:
        """Another text beside the bar."""
        self.rich.update(self.task, description=text)


class Progress:
    """Makes bars on one console; with `lines` and no terminal there, a line a minute and one at the end of each."""

    def __init__(self, console: Console | None = None, *, lines: bool = False) -> None:
        self.console = console or Console(stderr=True)
        self.lines = lines and not self.console.is_terminal

    @contextmanager
    def bar(self, description: str, total: int | None) -> Iterator[Bar]:
        """A bar for the time of a `with` block; without a total, a spinner."""
        columns: list[ProgressColumn] = [SpinnerColumn(), TextColumn("{task.description}")]
        if total is not None:
            columns += [BarColumn(), MofNCompleteColumn(), RateColumn(), TimeRemainingColumn()]
        columns.append(TimeElapsedColumn())
        shown = self.console.is_terminal
        with RichProgress(*columns, console=self.console, disable=not shown, transient=total is None) as rich:
            lines = self.lines and total is not None
            bar = Bar(rich, rich.add_task(description, total=total), lines)
            yield bar
            if lines:
                bar.say()


QUIET = Progress(Console(stderr=True, quiet=True, force_terminal=False))
