"""Activity: how many events of which kind, per minute, per conversation and ever.

A label is the event's type, and after a colon what sort of it, where there is one:
`message.received:action`, `session.transitioned:completed`, `bridge.event:irc.system`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

from eventlog.entry import Entry
from eventlog.errors import InvalidQuery
from eventlog.event import Event, UnknownEvent
from eventlog.log import EventLog
from eventlog.vocabulary import BridgeEvent, Message, SessionTransitioned
from projections.projection import DocumentProjection, IndexEntry
from projections.reading.live import Consistency, LiveDocuments
from projections.reading.paging import Page, decode_cursor, encode_cursor
from projections.storing.store import ModelStore

MINUTE_US = 60_000_000
REMEMBERED_SORTS = 1000
"""Sorts per type whose label is kept ready; a bridge may invent them without end."""

CONVERSATION_LABELS = 200
"""Labels of one conversation that are counted apart; what more sorts there are count as their type.
A document is written whole at every change, so it must not grow without end."""

OTHER = "other"
"""The label of types beyond these."""

_SORT_FIELDS: dict[type[Event], str] = {
    Message: "message_type",
    BridgeEvent: "event_type",
    SessionTransitioned: "to_status",
}


class Minute(msgspec.Struct, omit_defaults=True):
    """Events that occurred in one minute; `minute` counts minutes since 1970, UTC."""

    minute: int
    counts: dict[str, int] = {}


class Total(msgspec.Struct):
    """How many events of one label there ever were."""

    label: str
    count: int = 0


class ConversationActivity(msgspec.Struct, omit_defaults=True):
    """Events of one conversation by label. Times are µs UTC by the producers' clocks."""

    conversation: str
    counts: dict[str, int] = {}
    first_at: int = 0
    last_at: int = 0

    @property
    def event_count(self) -> int:
        """How many events there were, of whatever kind."""
        return sum(self.counts.values())


class _Labels(dict[str | None, str]):
    """Labels of one event type by sort, each spelled once: they are asked for at every event."""

    def __init__(self, tag: str) -> None:
        super().__init__({None: tag})
        self._tag = tag

    def __missing__(self, sort: str) -> str:
        spelled = f"{self._tag}:{sort}"
        if len(self) < REMEMBERED_SORTS:
            self[sort] = spelled
        return spelled


class _Labelling(dict[type[Event], Callable[[Any], str]]):
    """How events of a type are labelled; found out once for each type."""

    def __missing__(self, event_type: type[Event]) -> Callable[[Any], str]:
        if issubclass(event_type, UnknownEvent):
            return _type_of
        labels = _Labels(str(event_type.__struct_config__.tag))
        sort_of = _sort_getter(event_type)
        made = self[event_type] = lambda event: labels[sort_of(event)]
        return made


LABELLING = _Labelling()
"""`LABELLING[type(event)](event)` is the label, without the call of `label`."""

_type_of: Callable[[Any], str] = attrgetter("type")


def label(event: Event) -> str:
    """Return the label of an event."""
    return LABELLING[type(event)](event)


def _sort_getter(event_type: type[Event]) -> Callable[[Any], str | None]:
    for base, name in _SORT_FIELDS.items():
        if issubclass(event_type, base):
            return attrgetter(name)
    return _no_sort


def _no_sort(_event: Event) -> None:
    """Return the sort of an event that comes in one sort only."""


class MinutesProjection(DocumentProjection[Minute]):
    """Counts events by label in the minute they occurred."""

    name = "activity_minutes"
    types = (Event,)
    state_type = Minute

    def __init__(self) -> None:
        self._last = (0, "0")
        """The minute asked for last, and its key: most events follow one of the same minute."""

    def key(self, event: Event) -> str:
        """Return the minute."""
        minute = event.occurred_at // MINUTE_US
        last, key = self._last
        if minute != last:
            key = str(minute)
            self._last = (minute, key)
        return key

    def initial(self, key: str) -> Minute:
        """Return a minute in which nothing happened."""
        return Minute(int(key))

    def apply(self, state: Minute, entry: Entry) -> Minute:
        """Return the minute with one event more."""
        counts, name = state.counts, label(entry.event)
        counts[name] = counts.get(name, 0) + 1
        return state

    def apply_all(self, state: Minute | None, key: str, entries: Sequence[Entry]) -> Minute:
        """Return the minute with all the events."""
        state = state or self.initial(key)
        counts = state.counts
        for entry in entries:
            event = entry.event
            name = LABELLING[type(event)](event)
            counts[name] = counts.get(name, 0) + 1
        return state

    def index(self, key: str, state: Minute) -> tuple[IndexEntry, ...]:  # noqa: ARG002 - the state has it
        """Return the one list of minutes, by time."""
        return (("all", state.minute),)

    def idle_since(self, state: Minute) -> int:
        """Return the minute's end."""
        return (state.minute + 1) * MINUTE_US


class TotalsProjection(DocumentProjection[Total]):
    """Counts events by label."""

    name = "activity_totals"
    types = (Event,)
    state_type = Total

    def key(self, event: Event) -> str:
        """Return the label."""
        return LABELLING[type(event)](event)

    def initial(self, key: str) -> Total:
        """Return the count of nothing."""
        return Total(key)

    def apply(self, state: Total, entry: Entry) -> Total:  # noqa: ARG002 - one is one
        """Return the count with one event more."""
        state.count += 1
        return state

    def apply_all(self, state: Total | None, key: str, entries: Sequence[Entry]) -> Total:
        """Return the count with all the events."""
        state = state or self.initial(key)
        state.count += len(entries)
        return state

    def index(self, key: str, state: Total) -> tuple[IndexEntry, ...]:  # noqa: ARG002 - one list
        """Return the one list of labels, in no order that means anything."""
        return (("all", 0),)


def _bounded(name: str, event: Event, counts: dict[str, int]) -> str:
    """Return the label to count an event under, which is a coarser one where there are too many."""
    if len(counts) < CONVERSATION_LABELS:
        return name
    return event.type if isinstance(event, tuple(_SORT_FIELDS)) else OTHER


class ConversationActivityProjection(DocumentProjection[ConversationActivity]):
    """Counts events by label in their conversation."""

    name = "activity_conversations"
    types = (Event,)
    state_type = ConversationActivity

    def key(self, event: Event) -> str:
        """Return the conversation."""
        return event.conversation

    def initial(self, key: str) -> ConversationActivity:
        """Return a conversation in which nothing happened."""
        return ConversationActivity(key)

    def apply(self, state: ConversationActivity, entry: Entry) -> ConversationActivity:
        """Return the conversation with one event more."""
        return self.apply_all(state, state.conversation, [entry])

    def apply_all(
        self, state: ConversationActivity | None, key: str, entries: Sequence[Entry]
    ) -> ConversationActivity:
        """Return the conversation with all the events."""
        state = state or self.initial(key)
        counts, first_us, last_us = state.counts, state.first_at, state.last_at
        if not counts:
            first_us = last_us = entries[0].event.occurred_at
        for entry in entries:
            event = entry.event
            name = LABELLING[type(event)](event)
            if name in counts:
                counts[name] += 1
            else:
                name = _bounded(name, event, counts)
                counts[name] = counts.get(name, 0) + 1
            at_us = event.occurred_at
            if at_us > last_us:
                last_us = at_us
            elif at_us < first_us:
                first_us = at_us
        state.first_at, state.last_at = first_us, last_us
        return state

    def index(self, key: str, state: ConversationActivity) -> tuple[IndexEntry, ...]:  # noqa: ARG002 - the state has it
        """Return the one list of conversations, by last activity in ms."""
        return (("all", state.last_at // 1000),)

    def idle_since(self, state: ConversationActivity) -> int:
        """Return when something last happened."""
        return state.last_at


ACTIVITY_MINUTES = MinutesProjection()
ACTIVITY_TOTALS = TotalsProjection()
ACTIVITY_CONVERSATIONS = ConversationActivityProjection()


class _Place(NamedTuple):
    before_minute: int


class Activity:
    """Questions about how much happened when. Every call may raise LogUnavailable."""

    def __init__(self, log: EventLog, store: ModelStore | None = None) -> None:
        self._log = log
        self._minutes = LiveDocuments(log, ACTIVITY_MINUTES, store)
        self._totals = LiveDocuments(log, ACTIVITY_TOTALS, store)
        self._conversations = LiveDocuments(log, ACTIVITY_CONVERSATIONS, store)

    async def totals(self, *, consistency: Consistency = "live") -> dict[str, int]:
        """Return how many events each label has."""
        counts: Counter[str] = Counter()
        async for total in self._totals.all("all", consistency):
            counts[total.label] += total.count
        return dict(counts)

    async def by_type(self, *, consistency: Consistency = "live") -> dict[str, int]:
        """Return how many events each type has."""
        counts: Counter[str] = Counter()
        for name, count in (await self.totals(consistency=consistency)).items():
            counts[name.partition(":")[0]] += count
        return dict(counts)

    async def of_conversation(
        self, conversation: str, *, consistency: Consistency = "live"
    ) -> ConversationActivity | None:
        """Return what happened in a conversation, None where nothing did."""
        partition = self._log.partition_of(conversation)
        return await self._conversations.get(partition, conversation, consistency)

    async def conversations(
        self,
        *,
        limit: int = 50,
        cursor: str | None = None,
        consistency: Consistency = "live",
    ) -> Page[ConversationActivity]:
        """Return all conversations, most recently active first. Raises InvalidCursor, InvalidQuery."""
        return await self._conversations.page("all", limit, cursor, consistency)

    async def per_minute(
        self,
        from_us: int,
        to_us: int,
        *,
        limit: int = 60,
        cursor: str | None = None,
        consistency: Consistency = "live",
    ) -> Page[Minute]:
        """Return the minutes in which anything occurred, newest first.

        The minutes that overlap `from_us` up to, not with, `to_us`; both µs UTC. Raises
        InvalidCursor, and InvalidQuery for a limit below 1.
        """
        if limit < 1:
            raise InvalidQuery(f"a page of {limit} minutes.", remedy="Ask for at least one.")
        end = -(-to_us // MINUTE_US)
        if cursor is not None:
            end = min(end, decode_cursor(cursor, _Place).before_minute)
        reads = (
            self._minutes.partition_page(
                p, "all", limit + 1, (from_us // MINUTE_US, end), consistency
            )
            for p in range(self._log.partition_count)
        )
        merged: dict[int, Counter[str]] = {}
        for part in await asyncio.gather(*reads):
            for each in part:
                merged.setdefault(each.minute, Counter()).update(each.counts)
        # Every partition gave its newest, hence the newest of all are complete.
        newest = sorted(merged, reverse=True)
        items = [Minute(minute, dict(merged[minute])) for minute in newest[:limit]]
        more = len(newest) > limit
        return Page(items, encode_cursor(_Place(items[-1].minute)) if more else None)
