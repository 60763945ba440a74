"""Following the log: what is there after a cursor, then whatever comes."""

from __future__ import annotations

from collections import deque
from typing import Self

from eventlog.codec import Codec
from eventlog.cursor import Cursor
from eventlog.entry import Entry, RawEntry
from eventlog.errors import HistoryGap, UndecodablePayload
from eventlog.event import UnknownEvent
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

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Entry:
        while not self._page:
            page = await self._store.wait(self._read, PAGE_ENTRIES, WAIT_MS)
            for partition, entry in page:
                self._check_gapless(partition, entry)
                self._read[partition] = entry.id
            self._page.extend(sorted(page, key=lambda item: item[1].id))
        partition, (entry_id, raw) = self._page.popleft()
        self.cursor[partition] = entry_id
        return decode_entry(self._codec, partition, RawEntry(entry_id, raw))

    def _check_gapless(self, partition: int, entry: RawEntry) -> None:
        expected = self._read[partition].n + 1
        if entry.id.n != expected:
            raise HistoryGap(
                f"partition {partition}: entries {expected} to {entry.id.n - 1} were trimmed "
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
