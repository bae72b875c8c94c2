"""What a person sees while a search runs: bars, compilation shown as such, and the closing table."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table


class Bar:
    """One stage's progress bar."""

    def __init__(self, progress: Progress, name: str, total: int) -> None:
        self._progress, self._name = progress, name
        self._task = progress.add_task(f"{name} · compiling", total=total)

    def advance(self, n: int, note: str = "") -> None:
        """`n` more units are done; `note` says what the last one showed."""
        text = f"{self._name} · {note}" if note else self._name
        self._progress.update(self._task, advance=n, description=text)


class Screen:
    """Progress on stderr, results on stdout; without a terminal, one line a stage."""

    def __init__(self, *, quiet: bool = False) -> None:
        # Without a terminal nothing is cut off: architectures are there to be copied.
        self._out = Console(quiet=quiet, width=None if sys.stdout.isatty() else 200)
        self._err = Console(stderr=True, quiet=quiet)

    def say(self, text: str) -> None:
        """A sentence about what goes on."""
        self._err.print(text, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def bar(self, name: str, total: int) -> Iterator[Bar]:
        """A progress bar for the stage that runs inside; says `compiling` until its first unit."""
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        if not self._err.is_terminal:
            self.say(f"{name} ...")
        with Progress(
            *columns, console=self._err, transient=True, disable=not self._err.is_terminal
        ) as progress:
            yield Bar(progress, name, total)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A table on stdout; every column but `architecture` to the right."""
        table = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
        for column in columns:
            left = column == "architecture"
            table.add_column(
                column,
                justify="left" if left else "right",
                no_wrap=not left,
                overflow="fold",
                min_width=None if left else len(column),
            )
        for row in rows:
            table.add_row(*(str(cell) for cell in row))
        self._out.print(table)

    def show(self, text: str) -> None:
        """A line of results on stdout."""
        self._out.print(text, highlight=False, markup=False, soft_wrap=True)
