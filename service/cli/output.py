"""What commands print: tables for people, JSON for programs."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, BinaryIO, NoReturn

import msgspec
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.cli.layout import GAP, fit, measure

OK = 0
FAILED = 1
WRONG_USAGE = 2
INCOMPLETE = 3
"""Done, but something was left out or needs attention."""

LONGEST_CELL = 200

_JOINERS = "\u200c\u200d"
"""Format characters that words and emoji are made with; the others could reorder a line."""
_EXCERPT = re.compile(r"\s*\bLINE (\d+): [^\n]*\n *\^+")
"""DuckDB's picture of the place an error is at, which needs lines of its own."""


class OutputClosed(Exception):
    """The reader of our output (`| head`) has seen enough."""


class _Terminal(Console):
    def on_broken_pipe(self) -> NoReturn:
        """Let the command end in order; rich's own way is to leave at once, as failed."""
        raise OutputClosed


console = _Terminal(highlight=False)
errors = Console(stderr=True, highlight=False)


@contextmanager
def binary_output() -> Iterator[BinaryIO]:
    """Give standard output for bytes, after all text printed so far. Raises OutputClosed."""
    try:
        sys.stdout.flush()
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise OutputClosed from None


def print_json(value: Any) -> None:
    """Print one JSON document on a line of its own, in UTF-8 whatever the locale."""
    with binary_output() as file:
        file.write(msgspec.json.encode(value) + b"\n")


def say(text: str, style: str = "") -> None:
    """Print a line about the work to standard error, unwrapped."""
    errors.print(clean(text), style=style, markup=False, soft_wrap=True)


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    spare: Sequence[str] = (),
    show: Callable[[Any], str] | None = None,
) -> int:
    """Print rows under their columns and return how many there were.

    On a terminal ids stay whole, long texts wrap, and `spare` columns (the most wanted first) are
    left out for want of room; what still does not fit is printed as a block per row. Elsewhere a
    row is a line, however long. Numbers are right-aligned.
    """
    listed = [list(row) for row in rows]
    show = show or cell
    cells = [[show(value) for value in row] for row in listed]
    numeric = [
        bool(listed) and all(isinstance(row[i], int | float | Decimal | None) for row in listed)
        for i in range(len(columns))
    ]
    if sys.stdout.isatty():
        _print_fitted(columns, cells, numeric, spare)
    else:
        for line in table_lines(columns, cells, numeric):
            console.print(line, markup=False, emoji=False, soft_wrap=True)
    return len(listed)


def table_lines(
    columns: Sequence[str], cells: Sequence[Sequence[str]], numeric: Sequence[bool]
) -> Iterator[str]:
    """Yield the table as lines without a limit, one a row, the headings first."""
    lines = [list(columns), *(list(row) for row in cells)]
    widths = [max(cell_len(line[i]) for line in lines) for i in range(len(columns))]
    for line in lines:
        padded = []
        for text, width, right in zip(line, widths, numeric, strict=True):
            blanks = " " * (width - cell_len(text))
            padded.append(blanks + text if right else text + blanks)
        yield (" " * GAP).join(padded).rstrip()


def _print_fitted(
    columns: Sequence[str],
    cells: Sequence[Sequence[str]],
    numeric: Sequence[bool],
    spare: Sequence[str],
) -> None:
    needs = [measure(name, [row[i] for row in cells]) for i, name in enumerate(columns)]
    widths = fit(needs, console.width, [columns.index(name) for name in spare])
    if widths is None:
        _print_blocks(columns, cells)
        return
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold")
    for index, width in widths.items():
        table.add_column(
            columns[index],
            width=width,
            justify="right" if numeric[index] else "left",
            overflow="fold",
        )
    for row in cells:
        table.add_row(*(Text(row[index]) for index in widths))
    console.print(table)
    hidden = [name for index, name in enumerate(columns) if index not in widths]
    if hidden:
        say(f"left out for want of room: {', '.join(hidden)}", "dim")


def _print_blocks(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    """Print each row as lines of `column value`, what is empty left out."""
    for number, row in enumerate(cells):
        block = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, show_header=False)
        block.add_column(style="bold", no_wrap=True)
        block.add_column(overflow="fold")
        for name, text in zip(columns, row, strict=True):
            if text not in ("", "-", "NULL"):
                block.add_row(name, Text(text))
        if number:
            console.print()
        console.print(block)


def cell(value: Any) -> str:
    """Return a value as a table shows it: one line, bounded, None as a hyphen."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,.2f}"
        case datetime():
            return value.strftime("%Y-%m-%d %H:%M:%S")
    return shorten(clean(str(value)))


def sql_cell(value: Any) -> str:
    """Return a value of a query's result: as SQL would write it, since nobody knows what it means."""
    match value:
        case None:
            return "NULL"
        case bool():
            return "true" if value else "false"
        case dict() | list() | bytes():
            value = msgspec.json.encode(value, enc_hook=str).decode()
    return shorten(clean(str(value)))


def shorten(text: str) -> str:
    """Return the text, cut with an ellipsis at the longest a table shows."""
    return text if len(text) <= LONGEST_CELL else text[: LONGEST_CELL - 1] + "…"


def clean(text: str) -> str:
    """Return the text as one line that cannot steer a terminal or reorder what is beside it."""
    if not text.isprintable():
        text = "".join(map(_visible, text))
    return " ".join(text.split())


def _visible(character: str) -> str:
    if character.isprintable() or character.isspace() or character in _JOINERS:
        return character
    return "" if unicodedata.category(character) == "Cf" else "\N{REPLACEMENT CHARACTER}"


def one_line(text: str) -> str:
    """Return an error's text in one line, DuckDB's excerpt as the line number it points at."""
    return clean(_EXCERPT.sub(r" (line \1).", text))


def many(count: int, noun: str, plural: str | None = None) -> str:
    """Return a count with its noun: `1 letter`, `1,200 entries`."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def moment(time_us: int | None) -> datetime | None:
    """Return a time in µs UTC as a datetime for a table."""
    if time_us is None:
        return None
    try:
        return datetime.fromtimestamp(time_us / 1_000_000, UTC)
    except (OverflowError, ValueError, OSError):
        return None  # a producer's clock may say anything


def duration(seconds: float | None) -> str:
    """Return a duration in its two largest units: `1 h 05 min`, `3.2 s`."""
    if seconds is None:
        return "-"
    if seconds < 59.95:  # what would be rounded to 60.0 s is a minute
        return f"{seconds:.1f} s"
    minutes, rest_s = divmod(round(seconds), 60)
    hours, rest_min = divmod(minutes, 60)
    days, rest_h = divmod(hours, 24)
    if days:
        return f"{days} d {rest_h:02} h"
    return f"{hours} h {rest_min:02} min" if hours else f"{minutes} min {rest_s:02} s"
