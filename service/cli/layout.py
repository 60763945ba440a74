"""How wide a table's columns are, and which of them there is room for. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.cells import cell_len

GAP = 2
"""Blanks between two columns."""
SHORT_TEXT = 24
"""A cell with blanks may be wrapped when it is longer than this: times and durations stay whole."""
LONGEST_WHOLE = 60
"""A cell without blanks is an id, kept whole, up to this length."""
NARROWEST_TEXT = 20


class Column(NamedTuple):
    """What a column needs, in terminal cells."""

    natural: int
    """Everything on one line."""
    tight: int
    """The heading wrapped between its words."""
    least: int
    """The cells wrapped as well, where they are texts."""


def measure(heading: str, cells: Sequence[str]) -> Column:
    """Return what a column of these cells needs."""
    body = max(map(cell_len, cells), default=0)
    word = max(map(cell_len, heading.split()), default=0)
    least = min(body, NARROWEST_TEXT) if any(map(_is_text, cells)) else body
    return Column(max(body, cell_len(heading)), max(body, word), max(least, word))


def _is_text(cell: str) -> bool:
    width = cell_len(cell)
    return width > LONGEST_WHOLE or (width > SHORT_TEXT and " " in cell)


def fit(columns: Sequence[Column], room: int, spare: Sequence[int] = ()) -> dict[int, int] | None:
    """Return the width of each column shown by its index, or None where no table fits.

    Headings wrap first, then texts; of the `spare` columns, the most wanted first, those are left
    out that there is no room for even so.
    """
    chosen = {index: column for index, column in enumerate(columns) if index not in spare}
    for index in spare:
        candidate = dict(sorted({**chosen, index: columns[index]}.items()))
        if _squeeze(candidate, room) is not None:
            chosen = candidate
    return _squeeze(chosen, room)


def _squeeze(columns: dict[int, Column], room: int) -> dict[int, int] | None:
    room -= GAP * (len(columns) - 1)
    if sum(column.natural for column in columns.values()) <= room:
        return {index: column.natural for index, column in columns.items()}
    widths = {index: column.tight for index, column in columns.items()}
    excess = sum(widths.values()) - room
    while excess > 0:
        yielding = [i for i, width in widths.items() if width > columns[i].least]
        if not yielding:
            return None
        widths[max(yielding, key=widths.__getitem__)] -= 1
        excess -= 1
    return widths
