"""The live tail: what the log has beyond the archive position, as one table, kept between queries.

Each refresh reads only what is new and drops what the archive has taken over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from analytics.bulk_pages import Stream, bulk_pages
from analytics.columns import SCHEMA, encode_pages
from analytics.pages import Page, PageSize
from analytics.sources import Held
from eventlog.errors import HistoryGap
from eventlog.ids import START, EntryId
from eventlog.log import EventLog
from eventlog.stream_rewriting import rewrite_counts

BULK_ENTRIES = 2000
"""From so many on entries are read over a connection of their own."""

MAX_PIECES = 16
"""Many refreshes make many small pieces, which are slow to scan: beyond this they are joined."""


@dataclass
class _Part:
    """The tail of one partition: rows of the sequences after `start` up to `end`."""

    start: int = 0
    end: EntryId = START
    rewrite_count: int = 0
    """How often the stream had been rewritten when the rows were read."""
    table: pa.Table = field(default_factory=SCHEMA.empty_table)

    def forget(self) -> None:
        """Drop all rows: what they were read from was rewritten."""
        self.start, self.end, self.table = 0, START, SCHEMA.empty_table()

    def begin_at(self, position: EntryId) -> None:
        """Drop the rows up to `position`; they are in the archive."""
        if self.start <= position.n <= self.end.n:
            self.table = self.table.slice(position.n - self.start)
        else:
            self.table = SCHEMA.empty_table()
            self.end = position
        self.start = position.n

    def extend(self, table: pa.Table, end: EntryId) -> None:
        self.table = pa.concat_tables([self.table, table])
        if self.table.column(0).num_chunks > MAX_PIECES:
            self.table = self.table.combine_chunks()
        self.end = end


class LiveTail:
    """The entries of all partitions that no segment holds yet."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._parts: dict[int, _Part] = {}

    async def refresh(self, coverages: Mapping[int, Held]) -> pa.Table:
        """Return everything after the archive positions, up to the last entry appended by now.

        Raises HistoryGap where entries between the two are gone: read the coverages again, the
        archive may have moved on.
        """
        rewrites = await rewrite_counts(self._log)  # before anything is read
        heads = await self._log.heads()
        for partition, head in enumerate(heads):
            coverage = coverages.get(partition)
            part = self._parts.setdefault(partition, _Part())
            if part.rewrite_count != rewrites[partition]:
                part.forget()
                part.rewrite_count = rewrites[partition]
            part.begin_at(coverage.position if coverage else START)
            await self._follow(partition, part, head)
        return pa.concat_tables([part.table for part in self._parts.values()])

    async def starts(self, held: Mapping[int, Held]) -> dict[int, EntryId]:
        """Return where the log goes on after the files, by partition: at once, or after a hole."""
        found: dict[int, EntryId] = {}
        for partition, head in enumerate(await self._log.heads()):
            position = held[partition].position if partition in held else START
            following = await self._log.read_raw(partition, position, 1)
            if following and following[0].id.n != position.n + 1:
                position = EntryId(following[0].id.ms, following[0].id.n - 1)
            found[partition] = position if following else max(position, head)
        return found

    async def _follow(self, partition: int, part: _Part, head: EntryId) -> None:
        if head.n - part.end.n >= BULK_ENTRIES and not self._log.is_in_memory:
            stream = Stream(
                self._log.settings,
                self._log.server_url,
                partition,
                self._log.keys.stream(partition),
            )
            part.extend(*await asyncio.to_thread(self._in_bulk, stream, part.end, head.n))
            return
        size = PageSize()
        pages: list[Page] = []
        end = part.end
        while end.n < head.n:
            entries = await self._log.read_raw(partition, end, size.entries)
            if not entries or entries[0].id.n != end.n + 1:
                raise _gap(partition, end.n + 1)
            page = Page.of_entries(entries)
            size.learn(page)
            pages.append(page)
            end = entries[-1].id
        if pages:
            table = await asyncio.to_thread(encode_pages, partition, pages, self._log.codec)
            part.extend(table, end)

    def _in_bulk(self, stream: Stream, after: EntryId, last: int) -> tuple[pa.Table, EntryId]:
        """Return the rows after `after` up to `last`, and the id of the last one."""
        end = after

        def pages() -> Iterator[Page]:
            nonlocal end
            for page in bulk_pages(stream, after, last):
                if page.n[0].as_py() != end.n + 1:
                    raise _gap(stream.partition, end.n + 1)
                end = page.end
                yield page

        return encode_pages(stream.partition, pages(), self._log.codec), end


def _gap(partition: int, sequence: int) -> HistoryGap:
    return HistoryGap(
        f"partition {partition}: entry {sequence} is neither in the archive nor in the log.",
        remedy="Restore the missing segment, or the server's data, from a backup.",
    )
