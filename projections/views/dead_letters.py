"""Dead letters: what was given up on, why, and what became of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from eventlog.entry import Entry
from eventlog.errors import InvalidQuery
from eventlog.log import EventLog
from eventlog.vocabulary import (
    DeadLetterDiscarded,
    DeadLetterParked,
    DeadLetterReplayed,
    DeadLetterResolved,
)
from projections.projection import DocumentProjection, IndexEntry
from projections.reading.live import Consistency, LiveDocuments, one_index
from projections.reading.paging import Page
from projections.storing.store import ModelStore

LetterStatus = Literal["parked", "resolved", "discarded"]


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
    origin: str | None = None
    recipient: str | None = None
    text: str | None = None
    reply_to: str | None = None


class DeadLettersProjection(DocumentProjection[DeadLetter]):
    """Folds a letter's life. Resolved and discarded are final: what comes later changes nothing."""

    name = "dead_letters"
    types = (DeadLetterParked, DeadLetterReplayed, DeadLetterResolved, DeadLetterDiscarded)
    state_type = DeadLetter
    facets = ("reason", "status")

    def key(
        self,
        event: DeadLetterParked | DeadLetterReplayed | DeadLetterResolved | DeadLetterDiscarded,
    ) -> str:
        """Return the letter."""
        return event.letter

    def initial(self, key: str) -> DeadLetter:
        """Return a letter of which nothing is known."""
        return DeadLetter(key)

    def apply(self, state: DeadLetter, entry: Entry) -> DeadLetter:
        """Return the letter after the entry."""
        event = entry.event
        if state.status != "parked":
            return state
        if isinstance(event, DeadLetterParked):
            _park(state, event)
            return state
        if not state.conversation:
            # Its parking is missing from this log: show what there is.
            state.conversation, state.parked_at = event.conversation, event.occurred_at
        if isinstance(event, DeadLetterReplayed):
            state.group = event.group
            state.attempts = max(state.attempts, event.attempt)
            state.error = event.error or state.error
        elif isinstance(event, DeadLetterResolved | DeadLetterDiscarded):
            discarded = isinstance(event, DeadLetterDiscarded)
            state.group = event.group
            state.status = "discarded" if discarded else "resolved"
            state.settled_at = event.occurred_at
        return state

    def index(self, key: str, state: DeadLetter) -> Iterator[IndexEntry]:  # noqa: ARG002 - the state has it
        """Return the lists the letter is in, by the ms it was parked; all but two hold parked ones."""
        parked_ms = state.parked_at // 1000
        yield "all", parked_ms
        yield f"status:{state.status}", parked_ms
        if state.status == "parked":
            yield f"group:{state.group}", parked_ms
            yield f"conversation:{state.conversation}", parked_ms
            yield f"reason:{state.reason}", parked_ms


def _park(state: DeadLetter, event: DeadLetterParked) -> None:
    """Take what the parking says; parked again, it keeps its place and its higher count."""
    state.conversation = event.conversation
    state.group = event.group
    state.reason = event.reason
    state.error = event.error
    state.attempts = max(state.attempts, event.attempts)
    state.parked_at = state.parked_at or event.occurred_at
    state.origin = event.origin
    state.recipient = event.recipient
    state.text = event.text
    state.reply_to = event.reply_to


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

    async def counts_by_reason(self, *, consistency: Consistency = "live") -> dict[str, int]:
        """Return how many letters are parked for each reason."""
        return await self._documents.counts("reason", consistency)

    async def counts_by_status(self, *, consistency: Consistency = "live") -> dict[str, int]:
        """Return how many letters are parked, resolved and discarded."""
        return await self._documents.counts("status", consistency)
