"""Variants of the product with a guard taken out, to see that its absence is found."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from eventlog import scripts


class Guard(NamedTuple):
    """A part of a script, what stands in its place where the guard is out, and what is found then."""

    part: str
    instead: str
    anomaly: str


GUARDS = {
    "dedup": Guard("if found[i] and not skipped[index] then", "if false then", "duplicate"),
    "fence": Guard(
        "if redis.call('HGET', keys[8], 'generation') ~= string.format('%.0f', fence) then",
        "if false then",
        "reorder",
    ),
    "floor": Guard("pin('group', group.name, needed)", "", "trimmed-but-needed"),
    "PEL drain": Guard("delivered_n > seen_n and seen or '>'", "'>'", "unseen"),
    "lease": Guard(
        "return redis.call('HGET', key, 'generation') == tostring(generation)", "return true", ""
    ),
    "checkpoint": Guard("if stored ~= checkpoint then", "if false then", ""),
}
"""Where no anomaly is named, another guard holds: see `BEHIND_THE_LEASE`."""

BEHIND_THE_LEASE = {"checkpoint": "unequal model", "dedup": "duplicate"}
"""What stands behind the fence of leases, and what is found where both are out."""

_Script = scripts.Script


def break_product(names: Collection[str] = ()) -> None:
    """Have every script that is loaded from now on lack these guards; without any it mends them all."""

    class Broken(_Script):
        def __init__(self, source: str) -> None:
            for name in names:
                source = source.replace(GUARDS[name].part, GUARDS[name].instead)
            super().__init__(source)

    scripts.Script = Broken if names else _Script  # type: ignore[misc]
    scripts.load_script.cache_clear()
