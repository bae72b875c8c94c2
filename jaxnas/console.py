"""What a person sees while a search runs: bars, compilation shown as such, and the closing table."""

import math
import re
import sys
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from textwrap import TextWrapper
from typing import Any

from rich import box
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
from rich.text import Text


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
        _print(self._err, text)

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
        with Progress(*columns, console=self._err, disable=not self._err.is_terminal) as progress:
            yield Bar(progress, name, total)

    def table(
        self,
        title: str,
        columns: Sequence[str],
        rows: Sequence[Sequence[Any]],
        *,
        folded: Container[str] = (),
    ) -> None:
        """A table on stdout, numbers to the right.

        Where the screen is too narrow for it, architectures are broken between operations and the
        columns `folded` between words.
        """
        cells = {c: [str(row[i]) for row in rows] for i, c in enumerate(columns)}
        widths = {c: max(map(len, [c, *cells[c]])) for c in columns}
        if "architecture" in cells:
            others = sum(widths.values()) - widths["architecture"] + GAP * (len(columns) - 1)
            room = max(MIN_ARCHITECTURE, self._out.width - others)
            cells["architecture"] = [_broken(text, room) for text in cells["architecture"]]
        table = Table(
            title=Text(title),
            title_justify="left",
            box=box.SIMPLE_HEAD,
            show_edge=False,
            pad_edge=False,
            padding=(0, GAP - 1, 0, 0),
        )
        for column, texts in cells.items():
            right = all(_NUMBER.fullmatch(text) for text in texts)
            justify = "right" if right else "left"
            folds = column in folded
            table.add_column(Text(column), justify=justify, no_wrap=not folds, overflow="fold")
        for row in zip(*cells.values(), strict=True):
            table.add_row(*map(Text, row))  # brackets in a cell are no markup
        self._out.print(table)

    def show(self, text: str) -> None:
        """A line of results on stdout."""
        _print(self._out, text)


def amount(n: int) -> str:
    """A whole number, as a power of ten where it is long."""
    return f"{n:,}" if n < 10**9 else f"about 10^{math.log10(n):.1f}"


GAP = 2
"""Blanks between a table's columns."""

MIN_ARCHITECTURE = 20
_NUMBER = re.compile(r"[-+]?[\d.,]*(nan|inf)?( ± [\d.,]+)?")


def _broken(text: str, room: int) -> str:
    """An architecture in lines of at most `room` characters, each beginning at a bar."""
    lines = [""]
    for part in re.findall(r"\|?[^|]+\|?$|\|?[^|]+|\|", text):
        if lines[-1] and len(lines[-1]) + len(part) > room:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def _print(console: Console, text: str) -> None:
    """Broken between words on a terminal; a long word, as an architecture, stays whole to be copied."""
    if console.is_terminal:
        wrapper = TextWrapper(
            console.width,
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        text = "\n".join("\n".join(wrapper.wrap(line)) for line in text.split("\n"))
    console.print(text, highlight=False, markup=False, soft_wrap=True)
