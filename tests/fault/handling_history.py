"""A run of workers, as everybody recorded it; handling_anomalies.py judges it. Pure.

Producers record what they sent and whether it was acknowledged; a write that timed out is
indeterminate: it may be in the log or not, and anywhere. Workers record each attempt as it begins and
ends. The log says what came of it. All times are ns of the machine's one wall clock, which the
server's entry ids are made from as well.

The order of a conversation is the order of its entries in the log. An entry is *done* when its letter
or its results stand in the log, or, where it has no result in its own partition, when an attempt at it
ended well: its successor may begin before its acknowledgement is written, as Order.pass_on says. So
after a crash entries may be handled again; what must be in order is the first attempt at each, and no
attempt may begin before all that precedes it is done.

Two attempts at entries of one conversation may overlap only where an owner was cut off for longer than
its lease and did not know it: it was paused, the server was away, or its link to the server is a
faulty one. From the beginning of that until `grace_ns` after it what it runs may overlap with what its
successor runs. Within one process nothing ever may. A process that was killed ends, with all
its attempts, at its last sign of life.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

from tests.fault.journal import records

NS_PER_MS = 1_000_000
NEVER_NS = 1 << 63


class Sent(NamedTuple):
    """An entry that a producer offered to the log, and what handling it is to leave there."""

    key: str
    """Its event's id."""
    conversation: str
    number: int
    """The producer's order in the conversation: one is sent when the one before was answered."""
    is_acknowledged: bool
    """If not, it may be in the log or not."""
    results: int = 0
    """Events appended in its own partition."""
    echoes: int = 0
    """Events appended in another partition, which are written before the acknowledgement."""
    is_hopeless: bool = False
    """No attempt can end well: it is to be parked."""


class Logged(NamedTuple):
    """An event that stands in the log."""

    kind: Literal["entry", "result", "echo", "letter"]
    key: str
    """The entry that it is, or that it came from."""
    conversation: str
    partition: int
    sequence: int
    at_ms: int
    number: int = 0
    """Which of the entry's results or echoes, from 1."""
    reason: str = ""
    """Of a letter."""


class Attempt(NamedTuple):
    """A handler's call."""

    process: str
    key: str
    begun_ns: int
    ended_ns: int | None = None
    """None where the process did not live to see it."""
    end: Literal["ok", "error", "called off"] | None = None


class Span(NamedTuple):
    """A time, both ends included."""

    from_ns: int
    to_ns: int

    def meets(self, other: Span) -> bool:
        return self.from_ns <= other.to_ns and other.from_ns <= self.to_ns


class Journal(NamedTuple):
    """What one process recorded."""

    process: str
    attempts: Sequence[Attempt]
    signs_ns: Sequence[int]
    """When it showed that it was alive, every few ms while it was, in order."""
    has_faulty_link: bool = False


@dataclass(frozen=True)
class History:
    """A run that has come to rest."""

    sent: Sequence[Sent]
    log: Sequence[Logged]
    journals: Sequence[Journal]
    outages: Sequence[Span] = ()
    """When the server was away."""
    unsettled: Collection[str] = ()
    """Keys of entries in the log that the group has not acknowledged at rest."""
    leftovers: Collection[str] = ()
    """What else is not as it should be at rest, in words."""
    gap_ns: int = 250 * NS_PER_MS
    """A process silent for longer may have been without its leases."""
    grace_ns: int = 2000 * NS_PER_MS
    """So long after it was cut off a process knows what it has lost."""

    @cached_property
    def expected(self) -> dict[str, Sent]:
        """What was sent, by key."""
        return {each.key: each for each in self.sent}

    @cached_property
    def outcomes(self) -> dict[str, list[Logged]]:
        """What came of each entry: its results, echoes and letters."""
        found: defaultdict[str, list[Logged]] = defaultdict(list)
        for each in self.log:
            if each.kind != "entry":
                found[each.key].append(each)
        return found

    @cached_property
    def attempts(self) -> dict[str, list[Attempt]]:
        """The attempts at each entry, in the order in which they began."""
        found: defaultdict[str, list[Attempt]] = defaultdict(list)
        everyone = (attempt for journal in self.journals for attempt in journal.attempts)
        for attempt in sorted(everyone, key=lambda each: each.begun_ns):
            found[attempt.key].append(attempt)
        return found

    @cached_property
    def conversations(self) -> dict[str, list[str]]:
        """The keys of each conversation's entries in the order of the log, each once."""
        found: defaultdict[str, dict[str, None]] = defaultdict(dict)
        for each in sorted(self.log, key=lambda each: (each.partition, each.sequence)):
            if each.kind == "entry":
                found[each.conversation][each.key] = None
        return {name: list(keys) for name, keys in found.items()}

    def ended_well_ns(self, key: str) -> int:
        """Return when an attempt first ended well, NEVER_NS where none did."""
        ends = (each.ended_ns for each in self.attempts.get(key, ()) if each.end == "ok")
        return min((end for end in ends if end is not None), default=NEVER_NS)

    def done_ns(self, key: str) -> int:
        """Return when its successor may begin, NEVER_NS where it may not."""
        written = [
            each.at_ms * NS_PER_MS
            for each in self.outcomes.get(key, ())
            if each.kind in ("result", "letter")
        ]
        sent = self.expected.get(key)
        if sent is not None and not sent.results:
            written.append(self.ended_well_ns(key))
        return min(written, default=NEVER_NS)


def read_journal(process: str, lines: Iterable[str], *, has_faulty_link: bool = False) -> Journal:
    """Return what a process wrote: lines of JSON, the last of which may be cut short."""
    attempts: dict[int, Attempt] = {}
    signs: list[int] = []
    for _, record in records(lines):
        signs.append(record["at_ns"])
        match record["what"]:
            case "begin":
                attempts[record["attempt"]] = Attempt(process, record["key"], record["at_ns"])
            case "ok" | "error" | "called off":
                attempts[record["attempt"]] = attempts[record["attempt"]]._replace(
                    ended_ns=record["at_ns"], end=record["what"]
                )
    return Journal(process, list(attempts.values()), signs, has_faulty_link)
