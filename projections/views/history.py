"""Chat history: the last messages of each conversation, in both directions, in log order."""

from __future__ import annotations

from typing import NamedTuple

from eventlog.entry import Entry
from eventlog.event import Event
from eventlog.log import EventLog
from eventlog.settings import Settings
from eventlog.vocabulary import MessageReceived, MessageSent
from projections.live import Consistency
from projections.live_feeds import LiveFeeds
from projections.paging import decode_cursor, encode_cursor
from projections.projection import FeedProjection
from projections.store import ModelStore


class HistoryProjection(FeedProjection):
    """Keeps what was said; a message that is only queued has not been said yet."""

    name = "history"
    types = (MessageReceived, MessageSent)

    def key(self, event: Event) -> str:
        """Return the conversation."""
        return event.conversation

    def limit(self, settings: Settings) -> int:
        """Return how many messages of a conversation stay hot."""
        return settings.chat_history_limit


HISTORY = HistoryProjection()


class HistoryPage(NamedTuple):
    """Messages of one conversation, oldest first.

    `cursor` fetches the page before this one, None where no older message is hot.
    `earlier_count` is how many messages came before this page; beyond what is hot they are in the
    archive.
    """

    entries: list[Entry]
    cursor: str | None
    earlier_count: int


class _Place(NamedTuple):
    before: int


class History:
    """Questions about what was said. Every call may raise LogUnavailable."""

    def __init__(self, log: EventLog, store: ModelStore | None = None) -> None:
        self._log = log
        self._feeds = LiveFeeds(log, HISTORY, store)

    async def last(
        self,
        conversation: str,
        limit: int = 50,
        *,
        cursor: str | None = None,
        consistency: Consistency = "live",
    ) -> HistoryPage:
        """Return the last messages, or those before a page by its cursor. Raises InvalidCursor.

        A cursor stays good while messages are added: no page repeats or misses one.
        """
        before = None if cursor is None else decode_cursor(cursor, _Place).before
        partition = self._log.partition_of(conversation)
        page = await self._feeds.page(partition, conversation, limit, before, consistency)
        more = bool(page.entries) and page.first > page.oldest
        return HistoryPage(
            page.entries, encode_cursor(_Place(page.first)) if more else None, page.first - 1
        )

    async def count(self, conversation: str, *, consistency: Consistency = "live") -> int:
        """Return how many messages the conversation ever had, the archived included."""
        partition = self._log.partition_of(conversation)
        page = await self._feeds.page(partition, conversation, 1, None, consistency)
        return page.total
