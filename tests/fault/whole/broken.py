"""Variants of the product with a guard taken out, to see that its absence is found."""

from __future__ import annotations

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
}
"""Where no anomaly is named, other guards hold: docs/reliability.md says which."""

_Script = scripts.Script


def break_product(name: str) -> None:
    """Have every script that is loaded from now on lack the guard; '' mends them all."""

    class Broken(_Script):
        def __init__(self, source: str) -> None:
            guard = GUARDS[name]
            super().__init__(source.replace(guard.part, guard.instead))

    scripts.Script = Broken if name else _Script  # type: ignore[misc]
    scripts.load_script.cache_clear()
