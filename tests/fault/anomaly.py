"""Something that must not be, found in what a run recorded."""

from __future__ import annotations

from typing import NamedTuple

SHOWN_LINES = 8
"""Of what proves it."""


class Anomaly(NamedTuple):
    """What is wrong, by name, and the recorded lines that prove it."""

    name: str
    about: str
    evidence: tuple[str, ...] = ()

    def __str__(self) -> str:
        more = len(self.evidence) - SHOWN_LINES
        shown = [*self.evidence[:SHOWN_LINES], *([f"… and {more} more"] if more > 0 else [])]
        return "\n".join([f"{self.name}: {self.about}", *(f"    {line}" for line in shown)])
