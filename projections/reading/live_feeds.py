"""Live reads of feeds: the stored items, plus what the log has after them."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from eventlog.entry import Entry
from eventlog.errors import InvalidQuery
from eventlog.ids import EntryId
from eventlog.log import EventLog
from projections.projection import FeedProjection
from projections.reading.live import Consistency
from projections.reading.tail import TAIL_PAGE_ENTRIES, follow
from projections.storing.default_store import default_store
from projections.storing.store import FeedRequest, ModelStore


class FeedPage(NamedTuple):
    """Entries of one feed, oldest first, numbered from 1 as they joined it."""

    entries: list[Entry]
    first: int
    """The number of the first of them; the page before this one ends before it."""
    oldest: int
    """The number of the oldest entry kept."""
    total: int
    """How many entries the feed ever took, those no longer kept included."""
    left_at: EntryId | None = None
    """The last entry that had left Redis with all before it; None of a feed that is there."""


class LiveFeeds:
    """Reads the feeds of one projection."""

    def __init__(
        self, log: EventLog, projection: FeedProjection, store: ModelStore | None = None
    ) -> None:
        self._log = log
        self._projection = projection
        self._store: ModelStore = store or default_store(log)

    async def page(
        self,
        partition: int,
        feed: str,
        limit: int,
        before: int | None = None,
        consistency: Consistency = "live",
    ) -> FeedPage:
        """Return the last `limit` entries, or the last of those numbered below `before`.

        Raises InvalidQuery for a limit or a number below 1.
        """
        if limit < 1 or (before is not None and before < 1):
            raise InvalidQuery(f"a page of {limit} items before {before}.", remedy="Count from 1.")
        tail_limit = TAIL_PAGE_ENTRIES if consistency == "live" else 0
        request = FeedRequest(
            self._projection.name, self._projection.version, feed, limit, before or 0, tail_limit
        )
        reply = await self._store.read_feed(partition, request)
        kept = deque((self._entry(partition, item) for item in reply.items), limit)
        total, end = reply.total, reply.first + len(reply.items)
        if consistency == "live":
            async for key, entry in follow(self._log, self._projection, partition, reply.tail):
                if key != feed:
                    continue
                total += 1
                if before is None or total < before:
                    kept.append(entry)
                    end = total + 1
        return FeedPage(list(kept), end - len(kept), reply.oldest, total, reply.left_at)

    def _entry(self, partition: int, item: bytes) -> Entry:
        entry_id, _, raw = item.partition(b" ")
        return Entry(partition, EntryId.parse(entry_id), self._log.codec.decode(raw), raw)
