"""How a conversation in the log differs from its source. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import msgspec

DifferenceKind = Literal["missing", "extra", "changed", "order", "session"]

FIELDS: dict[str, tuple[str, ...]] = {
    "message.received": ("type", "occurred_at", "sender", "text", "message_type", "session"),
    "message.sent": ("type", "occurred_at", "sender", "text", "message_type", "session"),
    "session.started": ("type", "occurred_at", "session", "user", "project", "text"),
    "dead_letter.parked": ("type", "occurred_at", "letter", "text", "reply_to", "attempts"),
    "bridge.event": ("type", "occurred_at", "event_type", "project", "session"),
}
"""What is compared of an event, by its type."""

COLUMNS = tuple(dict.fromkeys(name for fields in FIELDS.values() for name in fields))


class Told(NamedTuple):
    """An event as one side has it: the place of its record in the source, and its fields."""

    place: str
    fields: tuple[Any, ...]
    """In the order of COLUMNS; None where the type has no such field."""


class Difference(msgspec.Struct, frozen=True):
    """One thing that differs; `place` is table and row, or file and line."""

    kind: DifferenceKind
    conversation: str
    place: str
    detail: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.place} in {self.conversation}: {self.detail}"


def differences(conversation: str, source: Sequence[Told], log: Sequence[Told]) -> list[Difference]:
    """Return how the log's events of a conversation differ from the source's, both in order."""
    expected = {each.place: each for each in source}
    actual = {each.place: each for each in log}
    found = [
        Difference("missing", conversation, place, "not in the log")
        for place in expected
        if place not in actual
    ]
    found += [
        Difference("extra", conversation, each.place, _why_extra(each, expected))
        for each in _surplus(log, expected)
    ]
    for place in expected.keys() & actual.keys():
        found += _changes(conversation, expected[place], actual[place])
    return found + _disorder(conversation, source, log)


def _surplus(log: Sequence[Told], expected: dict[str, Told]) -> list[Told]:
    """Return the log's events that the source has not, and those that are there once more."""
    seen: set[str] = set()
    surplus = []
    for each in log:
        if each.place not in expected or each.place in seen:
            surplus.append(each)
        seen.add(each.place)
    return surplus


def _why_extra(each: Told, expected: dict[str, Told]) -> str:
    return "twice in the log" if each.place in expected else "no longer in the source"


def _changes(conversation: str, source: Told, log: Told) -> list[Difference]:
    return [
        Difference("changed", conversation, source.place, f"{name}: {_pair(theirs, ours)}")
        for name, theirs, ours in zip(COLUMNS, source.fields, log.fields, strict=True)
        if theirs != ours
    ]


def _pair(source: Any, log: Any) -> str:
    return f"{_short(source)} in the source, {_short(log)} in the log"


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:60]}…"


def _disorder(conversation: str, source: Sequence[Told], log: Sequence[Told]) -> list[Difference]:
    """Return the first place where what both have comes in another order."""
    rank = {each.place: number for number, each in enumerate(source)}
    ranked = [(rank[each.place], each.place) for each in log if each.place in rank]
    for (before, earlier), (after, later) in pairwise(ranked):
        if after < before:
            detail = f"after {earlier} in the log, before it in the source"
            return [Difference("order", conversation, later, detail)]
    return []
