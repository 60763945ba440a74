"""A run as everybody recorded it; anomalies.py judges it. Pure.

Whoever appends records what it is about to append, and then what it was told: *acknowledged*, with the
place in the log where the call gives one; *refused*, so that it must not be there; or nothing that says
either, which is *indeterminate*: it may be there or not, but at most once. A process that was killed
between the two left its write indeterminate. A write that was offered again is one write.

Times are ns of the machine's one wall clock, whatever clock a process was given. Each item carries the
line that recorded it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple

from tests.fault.journal import records

Outcome = Literal["acknowledged", "indeterminate", "refused"]


class Place(NamedTuple):
    """Where an entry stands."""

    partition: int
    sequence: int


class Write(NamedTuple):
    """An event that somebody offered to the log."""

    key: str
    """The event's id, or what it carries in place of one."""
    conversation: str
    number: int
    """Its order among those of its conversation: one was offered when the one before was answered."""
    outcome: Outcome
    place: Place | None = None
    """Where it was said to stand."""
    line: str = ""


class Logged(NamedTuple):
    """An entry, as archive and log have it together."""

    place: Place
    kind: Literal["write", "sent", "letter", "note", "other"]
    """`sent` and `letter` record what became of a delivery, a `note` was logged in passing and may be
    missing; `other` is the product's own."""
    key: str
    """Of the write that it is, or that it is about."""
    conversation: str
    id: str = ""
    """The event's."""
    is_queued: bool = False
    """Whether it is to be delivered."""

    @property
    def line(self) -> str:
        return f"log: {self.kind} {self.key} of {self.conversation} at {self.place}"


class Sight(NamedTuple):
    """A reader was given an entry."""

    reader: str
    """A consumer group, whichever of its processes it was."""
    place: Place
    id: str
    """The event's."""
    conversation: str
    at_ns: int
    line: str = ""


class Attempt(NamedTuple):
    """A sender was called."""

    key: str
    """The idempotency key, hence the queued write's."""
    conversation: str
    at_ns: int
    is_taken: bool
    """Whether the platform took the message."""
    line: str = ""


class Look(NamedTuple):
    """Somebody asked for what had been acknowledged to it before."""

    key: str
    was_found: bool
    line: str = ""


class Position(NamedTuple):
    """How far something was, when it was looked at."""

    of: str
    n: int
    at_ns: int
    line: str = ""


class Need(NamedTuple):
    """The lowest sequence that somebody needed of a partition, looked up after what the log began with."""

    partition: int
    who: str
    needs_n: int
    first_n: int
    """The first entry that the log had, just before."""
    line: str = ""


@dataclass(frozen=True)
class History:
    """A run that has come to rest."""

    writes: Sequence[Write] = ()
    log: Sequence[Logged] = ()
    heads: dict[int, int] = field(default_factory=dict)
    """The last sequence by partition."""
    sights: Sequence[Sight] = ()
    attempts: Sequence[Attempt] = ()
    looks: Sequence[Look] = ()
    positions: Sequence[Position] = ()
    needs: Sequence[Need] = ()
    whole_readers: Collection[str] = ()
    """Those who must have been given every entry."""
    errors: Counter[str] = field(default_factory=Counter)
    """What those who append were told, by code."""
    files: Counter[str] = field(default_factory=Counter)
    """How many files of the archive were `compacted` ones, and how many were `deleted`."""

    @cached_property
    def at(self) -> dict[Place, Logged]:
        """What stands where."""
        return {each.place: each for each in self.log}

    @cached_property
    def written(self) -> dict[str, list[Logged]]:
        """The entries of each write, one if all is well."""
        found: defaultdict[str, list[Logged]] = defaultdict(list)
        for each in self.log:
            if each.kind == "write":
                found[each.key].append(each)
        return found

    @cached_property
    def offered(self) -> dict[str, Write]:
        """Writes by key, the acknowledged one where it was offered several times."""
        found: dict[str, Write] = {}
        for each in self.writes:
            if each.key not in found or each.outcome == "acknowledged":
                found[each.key] = each
        return found


class Recorded(NamedTuple):
    """What journals say, put together."""

    writes: list[Write]
    sights: list[Sight]
    attempts: list[Attempt]
    looks: list[Look]
    positions: list[Position]
    needs: list[Need]
    errors: Counter[str]
    """By code: what those who append were told."""
    files: Counter[str]


def read(journals: Iterable[tuple[str, Iterable[str]]]) -> Recorded:
    """Return what processes recorded, each under its name."""
    found = Recorded([], [], [], [], [], [], Counter(), Counter())
    for name, lines in journals:
        _Reading(found).take(name, lines)
    return found


class _Reading:
    """One process's journal being read."""

    def __init__(self, found: Recorded) -> None:
        self._found = found
        self._open: dict[str, Write] = {}
        """Offered and not answered, by key."""

    def take(self, name: str, lines: Iterable[str]) -> None:
        for number, record in records(lines):
            line = f"{name}:{number} {record}"
            getattr(self, f"_{record['what']}", self._nothing)(record, line)
        self._found.writes.extend(self._open.values())

    def _nothing(self, record: dict[str, Any], line: str) -> None:
        """What is for people to read."""

    def _offer(self, record: dict[str, Any], line: str) -> None:
        for key, conversation, number in record["writes"]:
            self._open[key] = Write(key, conversation, number, "indeterminate", line=line)

    def _answer(self, record: dict[str, Any], line: str) -> None:
        """Take what was said of writes; what may have been written stays open, to be offered again."""
        outcome = record["outcome"]
        if "error" in record:
            self._found.errors[record["error"]] += 1
        places = record.get("places") or [None] * len(record["keys"])
        for key, place in zip(record["keys"], places, strict=True):
            if outcome != "indeterminate":
                offered = self._open.pop(key)
                where = Place(*place) if place else None
                self._found.writes.append(
                    offered._replace(outcome=outcome, place=where, line=f"{offered.line} → {line}")
                )

    def _files(self, record: dict[str, Any], _line: str) -> None:
        self._found.files["compacted"] += len(record["compacted"])
        self._found.files["deleted"] += len(record["deleted"])

    def _saw(self, record: dict[str, Any], line: str) -> None:
        self._found.sights.append(
            Sight(
                record["reader"],
                Place(*record["place"]),
                record["id"],
                record["conversation"],
                record["at_ns"],
                line,
            )
        )

    def _send(self, record: dict[str, Any], line: str) -> None:
        self._found.attempts.append(
            Attempt(
                record["key"], record["conversation"], record["at_ns"], record["is_taken"], line
            )
        )

    def _look(self, record: dict[str, Any], line: str) -> None:
        self._found.looks.append(Look(record["key"], record["was_found"], line))

    def _position(self, record: dict[str, Any], line: str) -> None:
        self._found.positions.append(Position(record["of"], record["n"], record["at_ns"], line))

    def _need(self, record: dict[str, Any], line: str) -> None:
        self._found.needs.append(
            Need(record["partition"], record["who"], record["needs_n"], record["first_n"], line)
        )
