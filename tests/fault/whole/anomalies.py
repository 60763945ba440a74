"""What must hold of a run, a rule for each way in which it may not. Pure.

Each rule is a function from the history to what is wrong, with the lines that prove it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from tests.fault.anomaly import Anomaly
from tests.fault.whole.history import History, Logged, Place, Sight, Write

Finding = tuple[str, Sequence[str]]
"""What is wrong, and the lines that prove it."""


def anomalies(history: History) -> list[Anomaly]:
    """Return what is wrong with a run; nothing, if all is well."""
    return [
        Anomaly(name, about, tuple(evidence))
        for name, rule in RULES.items()
        for about, evidence in rule(history)
    ]


def lost_write(history: History) -> Iterator[Finding]:
    """What was acknowledged stands in the log, where it was said to stand."""
    for write in history.writes:
        if write.outcome != "acknowledged":
            continue
        entries = history.written.get(write.key, [])
        if not entries:
            yield f"{write.key} was acknowledged and is nowhere", [write.line]
        elif write.place is not None and write.place not in [each.place for each in entries]:
            lines = [write.line, *(each.line for each in entries)]
            yield f"{write.key} is not where it was said to be", lines


def duplicate(history: History) -> Iterator[Finding]:
    """An event stands in the log once, a place holds one entry, a delivery is recorded as sent once."""
    by_place: defaultdict[Place, list[Logged]] = defaultdict(list)
    by_key: defaultdict[tuple[str, str], list[Logged]] = defaultdict(list)
    for each in history.log:
        by_place[each.place].append(each)
        if each.kind != "other":
            by_key[each.kind, each.key].append(each)
    for place, entries in by_place.items():
        if len(entries) > 1:
            yield f"{place} is there {len(entries)} times", [each.line for each in entries]
    for (kind, key), entries in by_key.items():
        places = {each.place for each in entries}
        if len(places) > 1:
            offers = [write.line for write in history.writes if write.key == key]
            lines = [each.line for each in entries]
            yield f"{kind} of {key} is there {len(places)} times", [*lines, *offers]


def reorder(history: History) -> Iterator[Finding]:
    """What was acknowledged, first handled and sent in a conversation is in one order."""
    acknowledged: defaultdict[str, list[Write]] = defaultdict(list)
    for write in history.offered.values():
        if write.outcome == "acknowledged" and write.key in history.written:
            acknowledged[write.conversation].append(write)
    for writes in acknowledged.values():
        writes.sort(key=lambda each: each.number)
        placed = [(history.written[each.key][0].place, each.key, each.line) for each in writes]
        yield from _not_rising("the log", placed)
    yield from _sights_not_rising(history)
    taken: defaultdict[str, dict[str, tuple[int, str]]] = defaultdict(dict)
    for attempt in sorted(history.attempts, key=lambda each: each.at_ns):
        if attempt.is_taken and attempt.key in history.written:
            taken[attempt.conversation].setdefault(attempt.key, (attempt.at_ns, attempt.line))
    for first_takes in taken.values():
        placed = [
            (history.written[key][0].place, key, line) for key, (_, line) in first_takes.items()
        ]
        yield from _not_rising("deliveries", placed)


def _sights_not_rising(history: History) -> Iterator[Finding]:
    first: dict[tuple[str, Place], Sight] = {}
    for sight in sorted(history.sights, key=lambda each: each.at_ns):
        first.setdefault((sight.reader, sight.place), sight)
    lanes: defaultdict[tuple[str, str], list[Sight]] = defaultdict(list)
    for sight in first.values():
        lanes[sight.reader, sight.conversation].append(sight)
    for (reader, _), sights in lanes.items():
        placed = [(each.place, each.id, each.line) for each in sights]
        yield from _not_rising(f"what {reader} was given", placed)


def _not_rising(where: str, placed: Sequence[tuple[Place, str, str]]) -> Iterator[Finding]:
    for (place, key, line), (next_place, next_key, next_line) in pairwise(placed):
        if next_place < place:
            about = f"{next_key} at {next_place} comes after {key} at {place} in {where}"
            yield about, [line, next_line]


def gap(history: History) -> Iterator[Finding]:
    """Archive and log together have every sequence from 1 to the head."""
    for partition, head_n in history.heads.items():
        there = {each.place.sequence for each in history.log if each.place.partition == partition}
        missing = sorted(set(range(1, head_n + 1)) - there)
        if missing:
            lines = [
                write.line
                for write in history.writes
                if write.place and write.place.partition == partition
                if write.place.sequence in missing
            ]
            about = f"partition {partition} lacks {len(missing)} of {head_n}, {missing[0]} first"
            yield about, lines


def unseen(history: History) -> Iterator[Finding]:
    """At rest every reader was given every entry, what was queued was dealt with, reads saw what was there."""
    for reader in history.whole_readers:
        given = {each.place for each in history.sights if each.reader == reader}
        for each in history.log:
            if each.place not in given:
                yield f"{reader} was never given {each.key}", [each.line]
    settled = {each.key for each in history.log if each.kind in ("sent", "letter")}
    for each in history.log:
        if each.is_queued and each.key not in settled:
            lines = [each.line, *(a.line for a in history.attempts if a.key == each.key)]
            yield f"{each.key} was queued and neither sent nor given up", lines
    for look in history.looks:
        if not look.was_found:
            yield f"{look.key} was acknowledged and then not found", [look.line]


def phantom(history: History) -> Iterator[Finding]:
    """What stands in the log was offered and not refused; what was read or recorded as sent was there."""
    attempted = {each.key for each in history.attempts if each.is_taken}
    for each in history.log:
        if each.kind == "write":
            offer = history.offered.get(each.key)
            if offer is None:
                yield f"{each.key} was never offered", [each.line]
            elif offer.outcome == "refused":
                yield f"{each.key} was refused", [offer.line, each.line]
        elif each.kind == "sent" and each.key not in attempted:
            yield f"{each.key} was never taken by its platform", [each.line]
    for sight in history.sights:
        there = history.at.get(sight.place)
        if there is None or there.id != sight.id:
            lines = [sight.line, *([there.line] if there else [])]
            yield f"{sight.reader} was given {sight.id}, which is not in the log", lines


def non_monotonic_position(history: History) -> Iterator[Finding]:
    """What says how far something is never goes back."""
    last: dict[str, tuple[int, str]] = {}
    for position in sorted(history.positions, key=lambda each: each.at_ns):
        before_n, line = last.get(position.of, (position.n, ""))
        if position.n < before_n:
            about = f"{position.of} went back from {before_n} to {position.n}"
            yield about, [line, position.line]
        last[position.of] = position.n, position.line


def trimmed_but_needed(history: History) -> Iterator[Finding]:
    """The log begins no later than what anybody needs, who was asked afterwards.

    What somebody needs only grows: so it needed no more when the log was looked at.
    """
    for need in history.needs:
        if need.needs_n < need.first_n:
            about = (
                f"{need.who} needs {need.needs_n} of partition {need.partition},"
                f" which begins at {need.first_n}"
            )
            yield about, [need.line]


RULES: dict[str, Callable[[History], Iterator[Finding]]] = {
    "lost write": lost_write,
    "duplicate": duplicate,
    "reorder": reorder,
    "gap": gap,
    "unseen": unseen,
    "phantom": phantom,
    "non-monotonic position": non_monotonic_position,
    "trimmed-but-needed": trimmed_but_needed,
}


class Totals(NamedTuple):
    """What became of the writes."""

    acknowledged: int
    indeterminate: int
    refused: int

    @classmethod
    def of(cls, history: History) -> Totals:
        counts = Counter(each.outcome for each in history.offered.values())
        return cls(counts["acknowledged"], counts["indeterminate"], counts["refused"])
