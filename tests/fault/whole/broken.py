"""Variants of the product with a guard taken out, to see that its absence is found."""

from __future__ import annotations

from typing import NamedTuple

from eventlog import scripts


class Guard(NamedTuple):
    """What to take out of a script, and what is to be found then."""

    part: str
    instead: str
    anomaly: str


GUARDS = {
    "dedup": Guard("if found[i] and not skipped[index] then", "if false then", "duplicate"),
    "fence": Guard(
        "return redis.call('HGET', key, 'generation') == tostring(generation)",
        "return true",
        "duplicate",
    ),
    "floor": Guard("keep_n = math.min(keep_n, sequence_of(id))", "", "trimmed-but-needed"),
    "PEL drain": Guard("delivered_n > seen_n and seen or '>'", "'>'", "unseen"),
}


def break_product(name: str) -> None:
    """Have every script that is loaded from now on lack the guard; '' breaks nothing."""
    if not name:
        return
    guard, load = GUARDS[name], scripts.Script

    class Broken(load):  # type: ignore[misc, valid-type]
        def __init__(self, source: str) -> None:
            super().__init__(source.replace(guard.part, guard.instead))

    scripts.Script = Broken  # type: ignore[misc]
