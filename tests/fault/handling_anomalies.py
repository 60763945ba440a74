"""What must hold of a run of workers: lost, repeated, out of order, done with and not handled. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from tests.fault.anomaly import Anomaly
from tests.fault.handling_history import NEVER_NS, History, Journal, Sent, Span

WORKER_DIED = "worker_died"
"""The reason of a letter whose entry was begun too often without an end."""

MIN_BEGINS = 3
"""So often at least it was begun: its strikes, beside the one of which nobody knows."""


def anomalies(history: History) -> list[Anomaly]:
    """Return what is wrong with a run; nothing, if all is well."""
    return [
        Anomaly(name, about)
        for name, find in CHECKS.items()
        for about in dict.fromkeys(find(history))
    ]


def _lost(history: History) -> Iterator[str]:
    """What was acknowledged is in the log."""
    found = {each.key for each in history.log if each.kind == "entry"}
    yield from (each.key for each in history.sent if each.is_acknowledged and each.key not in found)


def _unfinished(history: History) -> Iterator[str]:
    """At rest nothing is left to do, and nothing is kept of what is done."""
    yield from history.leftovers
    yield from (f"{key} is not acknowledged" for key in history.unsettled)


def _duplicated(history: History) -> Iterator[str]:
    """An event is in the log once, and an entry has either results or one letter."""
    counts = Counter((each.kind, each.key, each.number) for each in history.log)
    for (kind, key, number), count in counts.items():
        if count > 1:
            yield f"{kind} {number} of {key} stands in the log {count} times"
    for key, outcomes in history.outcomes.items():
        if {"result", "letter"} <= {each.kind for each in outcomes}:
            yield f"{key} has both results and a letter"


def _phantom(history: History) -> Iterator[str]:
    """What stands in the log was sent, or comes from an attempt that could leave it."""
    for each in history.log:
        sent, attempts = history.expected.get(each.key), history.attempts.get(each.key, [])
        if sent is None:
            yield f"{each.kind} of {each.key}, which nobody sent"
        elif each.kind in ("result", "echo"):
            if history.ended_well_ns(each.key) == NEVER_NS:
                yield f"{each.kind} of {each.key}, at which no attempt ended well"
            if each.number > (sent.results if each.kind == "result" else sent.echoes):
                yield f"{each.kind} {each.number} of {each.key}, which has not so many"
        elif each.kind == "letter" and not attempts:
            yield f"letter of {each.key}, which was never tried"


def _parked_wrongly(history: History) -> Iterator[str]:
    """What can be handled is given up only where attempts at it had no end, or none in time."""
    for letter in history.log:
        sent = history.expected.get(letter.key)
        if letter.kind != "letter" or sent is None or sent.is_hopeless:
            continue
        ends = [each.end for each in history.attempts.get(letter.key, ())]
        died_count = len([end for end in ends if end != "error"])
        is_due = (letter.reason == "timeout" and "called off" in ends) or (
            letter.reason == WORKER_DIED and died_count >= MIN_BEGINS
        )
        if not is_due:
            yield f"{letter.key}, for {letter.reason}, after {ends}"


def _acknowledged_unhandled(history: History) -> Iterator[str]:
    """What is done with was handled, or parked."""
    for keys in history.conversations.values():
        for key in keys:
            is_parked = any(each.kind == "letter" for each in history.outcomes.get(key, ()))
            was_handled = history.ended_well_ns(key) != NEVER_NS
            if key not in history.unsettled and not (is_parked or was_handled):
                tries = len(history.attempts.get(key, ()))
                yield f"{key}, tried {tries} times, none of which ended well"


def _handled_unrecorded(history: History) -> Iterator[str]:
    """What was handled has all its results, unless it was parked."""
    for key, sent in history.expected.items():
        outcomes = history.outcomes.get(key, ())
        if history.ended_well_ns(key) == NEVER_NS or key in history.unsettled:
            continue
        if any(each.kind == "letter" for each in outcomes):
            continue
        for kind, count in (("result", sent.results), ("echo", sent.echoes)):
            found = {each.number for each in outcomes if each.kind == kind}
            for number in sorted(set(range(1, count + 1)) - found):
                yield f"{kind} {number} of {key} is missing"


def _reordered(history: History) -> Iterator[str]:
    """What was sent, what was tried and what came of it are in one order."""
    yield from _sent_and_logged_otherwise(history)
    for conversation, keys in history.conversations.items():
        tried = [key for key in keys if key in history.attempts]
        begun = [(key, history.attempts[key][0].begun_ns) for key in tried]
        yield from _out_of_order(f"{conversation} as first tried", begun)
        for where, kinds in (("answered", ("result", "letter")), ("echoed", ("echo",))):
            outcomes = [
                (key, sequence)
                for key in keys
                for sequence in sorted(
                    each.sequence for each in history.outcomes.get(key, ()) if each.kind in kinds
                )
            ]
            yield from _out_of_order(f"{conversation} as {where}", outcomes)


def _sent_and_logged_otherwise(history: History) -> Iterator[str]:
    places: dict[str, int] = {}
    for each in history.log:
        if each.kind == "entry":
            places.setdefault(each.key, each.sequence)
    sent: defaultdict[str, list[Sent]] = defaultdict(list)
    for offer in history.sent:
        if offer.is_acknowledged and offer.key in places:
            sent[offer.conversation].append(offer)
    for conversation, entries in sent.items():
        entries.sort(key=lambda each: each.number)
        logged = [(each.key, places[each.key]) for each in entries]
        yield from _out_of_order(f"{conversation} in the log", logged)


def _out_of_order(where: str, places: Sequence[tuple[str, int]]) -> Iterator[str]:
    for (key, place), (following, next_place) in pairwise(places):
        if next_place < place:
            yield f"{where}: {following} before {key}"


def _retried_out_of_order(history: History) -> Iterator[str]:
    """No attempt begins before all that precedes its entry is done."""
    for conversation, keys in history.conversations.items():
        last, last_done_ns = "", 0
        for key in keys:
            for attempt in history.attempts.get(key, ()):
                if attempt.begun_ns < last_done_ns:
                    yield f"{conversation}: {key} by {attempt.process}, before {last} was done"
            done_ns = history.done_ns(key)
            if done_ns >= last_done_ns:
                last, last_done_ns = key, done_ns


def _overlapping(history: History) -> Iterator[str]:
    """Attempts in one conversation come one after the other, but for what was cut off."""
    ends = {journal.process: max(journal.signs_ns, default=0) for journal in history.journals}
    cuts = {journal.process: cut_off(history, journal) for journal in history.journals}
    for conversation, keys in history.conversations.items():
        spans = [
            (Span(each.begun_ns, each.ended_ns or max(ends[each.process], each.begun_ns)), each)
            for key in keys
            for each in history.attempts.get(key, ())
        ]
        spans.sort(key=lambda item: item[0])
        for place, (span, attempt) in enumerate(spans):
            for later_span, later in spans[place + 1 :]:
                if later_span.from_ns >= span.to_ns:
                    break
                if attempt.process != later.process and any(
                    cut.meets(own)
                    for own, whose in ((span, attempt.process), (later_span, later.process))
                    for cut in cuts[whose]
                ):
                    continue
                yield (
                    f"{conversation}: {attempt.key} by {attempt.process} and {later.key} by"
                    f" {later.process}"
                )


def cut_off(history: History, journal: Journal) -> list[Span]:
    """Return when a process may have gone on without its leases."""
    if journal.has_faulty_link:
        return [Span(0, NEVER_NS)]
    silences = [
        Span(before, after)
        for before, after in pairwise(journal.signs_ns)
        if after - before > history.gap_ns
    ]
    return [
        Span(each.from_ns, each.to_ns + history.grace_ns) for each in (*silences, *history.outages)
    ]


CHECKS: dict[str, Callable[[History], Iterator[str]]] = {
    "lost": _lost,
    "unfinished": _unfinished,
    "duplicated": _duplicated,
    "phantom": _phantom,
    "parked_wrongly": _parked_wrongly,
    "acknowledged_unhandled": _acknowledged_unhandled,
    "handled_unrecorded": _handled_unrecorded,
    "reordered": _reordered,
    "retried_out_of_order": _retried_out_of_order,
    "overlapping": _overlapping,
}
"""Each yields what is wrong."""
