"""What a parser yields: units, imported records and rejected lines."""

from __future__ import annotations

import re
from typing import NamedTuple, TypeAlias

from eventlog.event import Event


class Unit(NamedTuple):
    """From here on items belong to this source: a file, or one session of a file.

    `names` identify it for ever, whatever folder it lies in. The first that the log knows is taken,
    else the first: so a unit keeps its name when the line it was named after is corrected.
    """

    names: tuple[str, ...]
    label: str = ""
    """Added to the file's label in the report, where a file has several units to tell apart."""
    has_lines: bool = False
    """Whether lines are counted within the unit (a table's rows), not within the file."""


class Imported(NamedTuple):
    """A record of the source as events; `kinds` are what the report counts it as.

    `position` grows within a unit (a line number, an index; 0 is free for what comes before them)
    and stays the same when the source is parsed again; `line` is where a person finds the record.
    """

    position: int
    line: int
    events: tuple[Event, ...]
    kinds: tuple[str, ...]


class Rejected(NamedTuple):
    """A record that could not be understood, and why."""

    position: int
    line: int
    reason: str


Item: TypeAlias = Unit | Imported | Rejected

UNREADABLE = "not UTF-8 text"
"""The reason for a line whose bytes are no text."""

_LINE_BREAKS = re.compile(r"\s*\n\s*")


def one_line(error: Exception) -> str:
    """Return an exception's text on one line, fit for `file:line: reason`."""
    return _LINE_BREAKS.sub(" ", str(error)).strip() or type(error).__name__
