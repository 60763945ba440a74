"""Dead letters: what was given up on, why, and what became of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from eventlog.entry import Entry
from eventlog.errors import InvalidQuery
from eventlog.log import EventLog
from eventlog.vocabulary import (
    DeadLetterDiscarded,
    DeadLetterParked,
    DeadLetterReplayed,
    DeadLetterReplayRequested,
    DeadLetterResolved,
    FailedAttempt,
)
from projections.projection import DocumentProjection, IndexEntry
from projections.reading.live import Consistency, LiveDocuments, one_index
from projections.reading.paging import Page
from projections.storing.store import ModelStore

LetterStatus = Literal["parked", "replaying", "resolved", "discarded"]

KEPT_FAILURES = 50
"""Failed attempts of which a letter tells each: the last ones."""

LetterEvent = (
    DeadLetterParked
    | DeadLetterReplayRequested
    | DeadLetterReplayed
    | DeadLetterResolved
    | DeadLetterDiscarded
)


class DeadLetter(msgspec.Struct, omit_defaults=True):
    """A dead letter. Times are µs UTC."""

    letter: str
    conversation: str = ""
    group: str = ""
    reason: str = ""
    status: LetterStatus = "parked"
    error: str | None = None
    attempts: int = 0
    parked_at: int = 0
    settled_at: int | None = None
    """When it was resolved or discarded."""
    discard_reason: str | None = None
    """Why it was given up for good."""
    origin: str | None = None
    recipient: str | None = None
    text: str | None = None
    reply_to: str | None = None
    session: str | None = None
    version: int = 0
    """How many dead_letter.* events it has: what `append(expected_version=…)` compares."""
    replay_count: int = 0
    """How often it was taken up to be tried again."""
    requested_at: int | None = None
    """When it was last asked to be."""
    runner: str | None = None
    """Who is replaying it: a caller by name, None for its group or where nobody is."""
    failures: list[FailedAttempt] = []
    """The failed attempts that are known one by one, oldest first."""
    traceback: str | None = None
    parked_entry: str | None = None
    """Where its latest parking stands, `partition/ms-n`."""
    parked_sequence: int = 0
    """Where it was first parked in its partition: the order in which letters are replayed."""
    last_sequence: int = 0
    """Where its latest event stands."""


class DeadLettersProjection(DocumentProjection[DeadLetter]):
    """Folds a letter's life. Resolved and discarded are final: later events only count as versions."""

    name = "dead_letters"
    version = 2
    types = (
        DeadLetterParked,
        DeadLetterReplayRequested,
        DeadLetterReplayed,
        DeadLetterResolved,
        DeadLetterDiscarded,
    )
    state_type = DeadLetter
    facets = ("reason", "status")

    def key(self, event: LetterEvent) -> str:
        """Return the letter."""
        return event.letter

    def initial(self, key: str) -> DeadLetter:
        """Return a letter of which nothing is known."""
        return DeadLetter(key)

    def apply(self, state: DeadLetter, entry: Entry) -> DeadLetter:
        """Return the letter after the entry."""
        event: LetterEvent = entry.event  # type: ignore[assignment] # `types` says which
        state.version += 1
        state.last_sequence = entry.sequence
        if state.status in ("resolved", "discarded"):
            return state
        if not state.conversation:
            # Where its parking is missing from this log, this shows what there is.
            state.conversation, state.parked_at = event.conversation, event.occurred_at
            state.parked_sequence = entry.sequence
        state.group = event.group
        if isinstance(event, DeadLetterReplayRequested):
            state.status, state.runner = "replaying", event.runner
            state.requested_at = event.occurred_at
            state.replay_count += 1
            return state
        was_asked, state.runner = state.status == "replaying", None
        if isinstance(event, DeadLetterParked):
            _park(state, event)
            state.parked_entry = f"{entry.partition}/{entry.id}"
        elif isinstance(event, DeadLetterReplayed):
            state.replay_count += not was_asked
            _fail(state, event)
        else:
            discarded = isinstance(event, DeadLetterDiscarded)
            state.status = "discarded" if discarded else "resolved"
            state.settled_at = event.occurred_at
            if isinstance(event, DeadLetterDiscarded):
                state.discard_reason = event.reason
        return state

    def index(self, key: str, state: DeadLetter) -> Iterator[IndexEntry]:  # noqa: ARG002 - the state has it
        """Return the lists the letter is in.

        By the ms it was parked: all, by status, and the parked ones by group, conversation, reason.
        What is not settled is in a list of its group by where it was parked, oldest first.
        """
        parked_ms = state.parked_at // 1000
        yield "all", parked_ms
        yield f"status:{state.status}", parked_ms
        if state.status == "parked":
            yield f"group:{state.group}", parked_ms
            yield f"conversation:{state.conversation}", parked_ms
            yield f"reason:{state.reason}", parked_ms
        if state.status in ("parked", "replaying"):
            yield f"unsettled:{state.group}", -state.parked_sequence

    def idle_since(self, state: DeadLetter) -> int | None:
        """Return when the letter was settled; one that is not stays for ever."""
        return state.settled_at


def _park(state: DeadLetter, event: DeadLetterParked) -> None:
    """Take what the parking says; parked again, it keeps its place and its higher count.

    What a later parking leaves out stays known.
    """
    state.status = "parked"
    state.reason = event.reason
    state.attempts = max(state.attempts, event.attempts)
    for name in ("error", "traceback", "origin", "recipient", "text", "reply_to", "session"):
        value = getattr(event, name)
        if value is not None:
            setattr(state, name, value)
    if event.failures:
        first = event.failures[0].attempt
        earlier = [failure for failure in state.failures if failure.attempt < first]
        state.failures = [*earlier, *event.failures][-KEPT_FAILURES:]


def _fail(state: DeadLetter, event: DeadLetterReplayed) -> None:
    """Park it as before, with one failed attempt more."""
    state.status = "parked"
    state.attempts = max(state.attempts, event.attempt)
    if event.error is not None:
        state.error = event.error
    failure = FailedAttempt(event.attempt, event.occurred_at, event.error or "")
    state.failures = [*state.failures, failure][-KEPT_FAILURES:]


def _score(parked_us: int | None, default: float) -> float:
    """Return the lowest score that a letter parked at that time or later can have."""
    return default if parked_us is None else float(-(-parked_us // 1000))


DEAD_LETTERS = DeadLettersProjection()


class DeadLetters:
    """Questions about dead letters. Every call may raise LogUnavailable."""

    def __init__(self, log: EventLog, store: ModelStore | None = None) -> None:
        self._log = log
        self._documents = LiveDocuments(log, DEAD_LETTERS, store)

    async def get(
        self, letter: str, *, conversation: str | None = None, consistency: Consistency = "live"
    ) -> DeadLetter | None:
        """Return the letter, or None. Naming its conversation saves asking every partition."""
        if conversation is not None:
            partition = self._log.partition_of(conversation)
            return await self._documents.get(partition, letter, consistency)
        found = await self._documents.find(letter, consistency)
        return found[0] if found else None

    async def list(
        self,
        *,
        status: LetterStatus | None = None,
        group: str | None = None,
        conversation: str | None = None,
        reason: str | None = None,
        parked_after_us: int | None = None,
        parked_before_us: int | None = None,
        limit: int = 50,
        cursor: str | None = None,
        consistency: Consistency = "live",
    ) -> Page[DeadLetter]:
        """Return letters by the time they were parked, newest first, by at most one of the four.

        By group, conversation or reason: the parked ones. By nothing: all. With it goes an age:
        those parked from `parked_after_us` up to, not with, `parked_before_us`, in µs UTC, of which
        whole ms are compared. Raises InvalidQuery, InvalidCursor.

        >>> hour_ago_us = time.time_ns() // 1000 - 3_600_000_000
        >>> page = await letters.list(reason="timeout", parked_before_us=hour_ago_us)
        """
        lowest, below = (
            _score(parked_after_us, float("-inf")),
            _score(parked_before_us, float("inf")),
        )
        if lowest >= below:
            raise InvalidQuery(
                f"no letter is parked after {parked_after_us} and before {parked_before_us}.",
                remedy="Give the earlier time as `parked_after_us`.",
            )
        index = one_index(
            {"status": status, "group": group, "conversation": conversation, "reason": reason}
        )
        return await self._documents.page(
            index, limit, cursor, consistency, lowest_score=lowest, below_score=below
        )

    async def unsettled(
        self, group: str, partition: int, after: int, limit: int
    ) -> Sequence[DeadLetter]:
        """Return a group's parked and replaying letters of a partition, in the order of parking.

        Those parked after the sequence `after`, up to `limit`: a page goes on at the
        `parked_sequence` of the last one before it.
        """
        scores = float("-inf"), float(-after)
        return await self._documents.partition_page(partition, f"unsettled:{group}", limit, scores)

    async def counts_by_reason(self, *, consistency: Consistency = "live") -> dict[str, int]:
        """Return how many letters are parked for each reason."""
        return await self._documents.counts("reason", consistency)

    async def counts_by_status(self, *, consistency: Consistency = "live") -> dict[str, int]:
        """Return how many letters are parked, replaying, resolved and discarded."""
        return await self._documents.counts("status", consistency)
