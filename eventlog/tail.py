"""Following the log: what is there after a cursor, then whatever comes."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Self

from eventlog.codec import Codec
from eventlog.cursor import Cursor
from eventlog.entry import Entry, RawEntry
from eventlog.errors import HistoryGap, UndecodablePayload
from eventlog.event import UnknownEvent
from eventlog.ids import EntryId
from eventlog.store import Store

PAGE_ENTRIES = 500
WAIT_MS = 1000


class Tail:
    """An async iterator over new entries that leaves nothing behind on the server.

    Within a partition, hence a conversation, order is append order; across partitions entries come
    as they arrive, those of one page by entry id. `cursor` stands after the last entry given out:
    keep `str(tail.cursor)` and pass it as `after` to resume. An entry that holds no event comes as
    an UnknownEvent of type `undecodable`. Raises HistoryGap when entries were trimmed unseen.
    """

    def __init__(self, store: Store, codec: Codec, cursor: Cursor) -> None:
        self.cursor = Cursor(cursor)
        self._read = Cursor(cursor)
        self._store = store
        self._codec = codec
        self._page: deque[tuple[int, RawEntry]] = deque()
        self._is_known_whole = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Entry:
        if not self._is_known_whole:
            await self._check_reachable()
        while not self._page:
            page = await self._store.wait(self._read, PAGE_ENTRIES, WAIT_MS)
            for partition, entry in page:
                self._check_gapless(partition, entry)
                self._read[partition] = entry.id
            self._page.extend(sorted(page, key=lambda item: item[1].id))
        partition, (entry_id, raw) = self._page.popleft()
        self.cursor[partition] = entry_id
        return decode_entry(self._codec, partition, RawEntry(entry_id, raw))

    async def _check_reachable(self) -> None:
        """Raise HistoryGap where all that follows the cursor was trimmed: no entry would ever tell."""
        heads = await self._store.heads()
        behind = [p for p, position in self._read.items() if heads[p].n > position.n]
        pages = await asyncio.gather(*(self._store.read(p, self._read[p], None, 1) for p in behind))
        for partition, page in zip(behind, pages, strict=True):
            following_n = page[0].id.n if page else heads[partition].n + 1
            check_follows(partition, self._read[partition], following_n)
        self._is_known_whole = True

    def _check_gapless(self, partition: int, entry: RawEntry) -> None:
        check_follows(partition, self._read[partition], entry.id.n)


def check_follows(partition: int, position: EntryId, following_n: int) -> None:
    """Raise HistoryGap where sequences between `position` and that one are missing."""
    if following_n > position.n + 1:
        raise HistoryGap(
            f"partition {partition}: entries {position.n + 1} to {following_n - 1} were trimmed "
            "before this reader saw them.",
            remedy="Read them from the archive, or start again from the present.",
        )


def decode_entry(codec: Codec, partition: int, entry: RawEntry) -> Entry:
    """Return the entry decoded; one that holds no event as UnknownEvent `undecodable`."""
    try:
        event = codec.decode(entry.raw)
    except UndecodablePayload as error:
        event = UnknownEvent(
            type="undecodable",
            id=f"{partition}/{entry.id}",
            conversation="eventlog:undecodable",
            occurred_at=entry.id.ms * 1000,
            extra={"error": error.message, "raw": entry.raw.decode(errors="replace")},
        )
    return Entry(partition, entry.id, event, entry.raw)
