"""The steps of writing a segment, so that a test can end the work at each of them.

`reached(step)` is called when a step is done; what it raises goes up as if the process had died
there. Faults are data, the idea is bytewax's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

Step = Literal[
    "planned", "writing", "written", "linked", "published", "moved", "forgotten", "removed"
]
"""The cut is fixed; a row group is written; the file is whole, synced and checked; it has its name;
the name is synced; the group's position is moved. Of a compaction: its note is forgotten; a file that
it has taken the place of is deleted."""

STEPS: tuple[Step, ...] = ("planned", "writing", "written", "linked", "published", "moved")

COMPACTION_STEPS: tuple[Step, ...] = (
    *("planned", "writing", "written", "linked", "published"),
    *("forgotten", "removed"),
)

Reached = Callable[[Step], None]


def go_on(step: Step) -> None:
    """Do nothing: the hook of a program that is not under test."""
    del step
