"""Transcripts: an agent's memory of a session, an ordered list of JSON items; many per conversation.

The log has what was done to a transcript: items appended, the last popped, all cleared. What is in
it is read from its end, so the last few cost as much in a long transcript as in a short one. The
last appends are hot; older ones come from the archive, and where that ends or is not given, from
the log.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from eventlog.entry import Entry
from eventlog.event import Event
from eventlog.json_text import from_json_text
from eventlog.log import EventLog
from eventlog.past import NoPast, Past
from eventlog.scoped import conversation_of, scoped
from eventlog.settings import Settings
from eventlog.vocabulary import TranscriptAppended, TranscriptCleared, TranscriptPopped
from projections.projection import DocumentProjection, FeedProjection, IndexEntry
from projections.reading.live import Consistency, LiveDocuments, one_index
from projections.reading.long_feeds import LongFeeds, Place
from projections.reading.paging import Page
from projections.storing.store import ModelStore

READ_CHANGES = 1000
"""Changes read per round trip at most."""

_TYPES = (TranscriptAppended, TranscriptPopped, TranscriptCleared)


def _key(event: Event) -> str:
    assert isinstance(event, _TYPES)
    return scoped(event.conversation, event.transcript)


class Transcript(msgspec.Struct, omit_defaults=True):
    """What is known of a transcript without its items. Times are µs UTC."""

    conversation: str
    name: str
    item_count: int = 0
    project: str | None = None
    metadata: dict[str, Any] = {}
    created_at: int = 0
    """When its first item came, or the first after it was cleared."""
    updated_at: int = 0
    cleared_count: int = 0
    version: int = 0
    """How often it was changed: what `append(expected_version=…)` compares."""


class TranscriptsProjection(DocumentProjection[Transcript]):
    """Folds what was done to a transcript into what it is now; one without items is in no list."""

    name = "transcripts"
    types = _TYPES
    state_type = Transcript

    def key(self, event: Event) -> str:
        """Return the transcript, whose name is its own within the conversation."""
        return _key(event)

    def initial(self, key: str) -> Transcript:
        """Return an empty transcript."""
        conversation = conversation_of(key)
        return Transcript(conversation, key.removeprefix(scoped(conversation, "")))

    def apply(self, state: Transcript, entry: Entry) -> Transcript:
        """Return the transcript after the entry."""
        event = entry.event
        state.version += 1
        state.updated_at = max(state.updated_at, event.occurred_at)
        match event:
            case TranscriptAppended():
                state.created_at = state.created_at or event.occurred_at
                state.item_count += len(event.items)
                state.project = state.project if event.project is None else event.project
                state.metadata = event.metadata or state.metadata
            case TranscriptPopped():
                state.item_count = max(0, state.item_count - 1)
            case TranscriptCleared():
                state.cleared_count += 1
                state.item_count = state.created_at = 0
                state.project, state.metadata = None, {}
        return state

    def index(self, key: str, state: Transcript) -> list[IndexEntry]:  # noqa: ARG002 - by state alone
        """Return the lists it is in, each by its last change in ms."""
        if not state.item_count:
            return []
        names = ["all", f"conversation:{state.conversation}"]
        if state.project is not None:
            names.append(f"project:{state.project}")
        return [(name, state.updated_at // 1000) for name in names]

    def idle_since(self, state: Transcript) -> int:
        """Return when it last changed."""
        return state.updated_at


class TranscriptItemsProjection(FeedProjection):
    """Keeps what was done to a transcript."""

    name = "transcript_items"
    types = _TYPES

    def key(self, event: Event) -> str:
        """Return the transcript, whose name is its own within the conversation."""
        return _key(event)

    def conversation(self, key: str) -> str:
        """Return the transcript's conversation."""
        return conversation_of(key)

    def limit(self, settings: Settings) -> int:
        """Return how many appends to a transcript stay hot."""
        return settings.transcript_limit


TRANSCRIPTS = TranscriptsProjection()
TRANSCRIPT_ITEMS = TranscriptItemsProjection()


class TranscriptItems(NamedTuple):
    """Items of a transcript, oldest first."""

    items: list[Any]
    version: int
    """Of the transcript that these were read from."""


@dataclass
class Unwound:
    """The last items of a transcript, found by going back through what was done to it. Pure."""

    limit: int | None = None
    texts: list[str] = field(default_factory=list)
    """The items' JSON, newest first."""
    popped_count: int = 0
    """Items popped that are still to be met."""
    is_done: bool = False

    def take(self, entries: Sequence[Entry]) -> None:
        """Go back through entries that come right before those taken so far; oldest first."""
        for entry in reversed(entries):
            match entry.event:
                case TranscriptCleared():
                    self.is_done = True
                case TranscriptPopped():
                    self.popped_count += 1
                case TranscriptAppended(items=items):
                    kept = items[: max(0, len(items) - self.popped_count)]
                    self.popped_count = max(0, self.popped_count - len(items))
                    self.texts += reversed(kept)
            if self.limit is not None and len(self.texts) >= self.limit:
                del self.texts[self.limit :]
                self.is_done = True
            if self.is_done:
                return

    def is_done_with(self, entries: Sequence[Entry]) -> bool:
        """Return whether these entries would be enough."""
        ahead = Unwound(self.limit, list(self.texts), self.popped_count)
        ahead.take(entries)
        return ahead.is_done


class Transcripts:
    """Questions about transcripts. Every call may raise LogUnavailable.

    >>> found = await transcripts.items("telegram:42", "main", 20)
    """

    def __init__(
        self, log: EventLog, store: ModelStore | None = None, *, past: Past | None = None
    ) -> None:
        self._log = log
        self._documents = LiveDocuments(log, TRANSCRIPTS, store)
        self._feeds = LongFeeds(log, TRANSCRIPT_ITEMS, store, past or NoPast())

    async def get(
        self, conversation: str, name: str, *, consistency: Consistency = "live"
    ) -> Transcript | None:
        """Return the transcript, also one that was cleared; None where there never was one."""
        partition = self._log.partition_of(conversation)
        return await self._documents.get(partition, scoped(conversation, name), consistency)

    async def list(
        self,
        *,
        project: str | None = None,
        conversation: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
        consistency: Consistency = "live",
    ) -> Page[Transcript]:
        """Return transcripts that have items, last changed first.

        All, or those of a project, or of a conversation. Raises InvalidCursor, InvalidQuery.
        """
        index = one_index({"project": project, "conversation": conversation})
        return await self._documents.page(index, limit, cursor, consistency)

    async def items(
        self,
        conversation: str,
        name: str,
        limit: int | None = None,
        *,
        consistency: Consistency = "live",
    ) -> TranscriptItems:
        """Return the last `limit` items, or all.

        Raises HistoryGap where neither log nor archive has some of them.
        """
        unwound = Unwound(limit, is_done=limit is not None and limit <= 0)
        feed = scoped(conversation, name)
        window = READ_CHANGES if limit is None else min(max(1, limit), READ_CHANGES)
        place: Place | None = None
        version = 0
        while True:
            read = await self._feeds.older(feed, place, window, consistency, unwound.is_done_with)
            version = read.total if place is None else version
            if not unwound.is_done:
                unwound.take(read.entries)
            if unwound.is_done or not read.has_older:
                return TranscriptItems([*map(from_json_text, reversed(unwound.texts))], version)
            place = read.left
            window = min(2 * window, READ_CHANGES)  # where much was popped, more has to be read
