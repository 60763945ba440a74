"""Entries of a conversation that are no longer hot: from the archive, and where it ends from the log.

Between the archive's position and the oldest hot entry lies what was put out of the feed and not
yet archived. Only the partition's stream has it, all conversations mixed, so a call looks through
no more than `SCANNED_ENTRIES` of it and says how far it came.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from eventlog.entry import Entry, RawEntry
from eventlog.errors import HistoryGap
from eventlog.ids import EntryId
from eventlog.log import EventLog
from eventlog.past import Past
from projections.projection import FeedProjection

SCANNED_ENTRIES = 20_000
"""Entries of the stream that one call looks through, about 0.1 s."""
SCAN_PAGE_ENTRIES = 1000

FIRST = EntryId(0, 1)
"""At or below the first entry of any partition."""


class Cold(NamedTuple):
    """What a call found, in log order."""

    entries: list[Entry]
    edge: EntryId
    """Where it stopped: everything between the place it began at and here was looked through. What
    is older lies below it, what is newer begins with it."""
    is_all: bool
    """Whether nothing is left of the range."""


class _Piece(NamedTuple):
    """What one step found, in the order it went, and how far it came; nowhere: entries are missing."""

    entries: list[Entry]
    edge: EntryId


class ColdReader:
    """Reads a feed's entries by their place. Every call may raise HistoryGap."""

    def __init__(self, log: EventLog, past: Past, projection: FeedProjection) -> None:
        self._log = log
        self._past = past
        self._projection = projection
        self._types = types = projection.types
        self._names = {name for name, t in log.codec.types.items() if issubclass(t, types)}

    async def older(self, feed: str, before: EntryId, limit: int) -> Cold:
        """Return the newest `limit` entries below `before`."""
        partition = self._log.partition_of(self._projection.conversation(feed))
        found: list[Entry] = []  # newest first
        edge, scanned = before, 0
        try:
            position = await self._past.position(partition)
            while edge.n > FIRST.n:
                room = limit - len(found)
                if room == 0 or scanned >= SCANNED_ENTRIES:
                    return Cold(found[::-1], edge, is_all=False)
                if edge.n <= position.n + 1:
                    piece = await self._archived_below(partition, feed, edge, room)
                else:
                    piece = await self._logged_below(partition, feed, edge, room, position)
                    scanned += edge.n - piece.edge.n
                    if piece.edge == edge:
                        position = await self._reaching(partition, edge.n - 1)
                found += piece.entries
                edge = piece.edge
        except HistoryGap:
            if not found:
                raise
            return Cold(found[::-1], edge, is_all=False)
        return Cold(found[::-1], edge, is_all=True)

    async def newer(self, feed: str, start: EntryId, until: EntryId | None, limit: int) -> Cold:
        """Return the oldest `limit` entries from `start` on and below `until` or the log's end."""
        partition = self._log.partition_of(self._projection.conversation(feed))
        end = until or just_after((await self._log.heads())[partition])
        found: list[Entry] = []
        edge, scanned = max(start, FIRST), 0
        try:
            position = await self._past.position(partition)
            while edge.n < end.n:
                room = limit - len(found)
                if room == 0 or scanned >= SCANNED_ENTRIES:
                    return Cold(found, edge, is_all=False)
                if edge.n <= position.n:
                    stop = min(end, just_after(position))
                    piece = await self._archived_from(partition, feed, edge, room, stop)
                else:
                    piece = await self._logged_from(partition, feed, edge, room, end)
                    scanned += piece.edge.n - edge.n
                    if piece.edge == edge:
                        position = await self._reaching(partition, edge.n)
                found += piece.entries
                edge = piece.edge
        except HistoryGap:
            if not found:
                raise
            return Cold(found, edge, is_all=False)
        return Cold(found, edge, is_all=True)

    async def _archived_below(self, partition: int, feed: str, edge: EntryId, limit: int) -> _Piece:
        # One more than asked for tells whether that is all.
        raws = await self._past.of_conversation(
            partition,
            self._projection.conversation(feed),
            self._names,
            limit=limit + 1,
            before=edge.n,
            newest_first=True,
        )
        reached = FIRST if len(raws) <= limit else raws[limit - 1].id
        return _Piece(self._decoded(partition, feed, raws[:limit]), reached)

    async def _archived_from(
        self, partition: int, feed: str, edge: EntryId, limit: int, stop: EntryId
    ) -> _Piece:
        raws = await self._past.of_conversation(
            partition,
            self._projection.conversation(feed),
            self._names,
            limit=limit,
            after=edge.n - 1,
            before=stop.n,
        )
        reached = stop if len(raws) < limit else just_after(raws[-1].id)
        return _Piece(self._decoded(partition, feed, raws), reached)

    async def _logged_below(
        self, partition: int, feed: str, edge: EntryId, limit: int, after: EntryId
    ) -> _Piece:
        page = await self._log.read(
            partition=partition,
            after=after,
            before=edge,
            limit=SCAN_PAGE_ENTRIES,
            reverse=True,
            allows_gap=True,
        )
        if not page or page[0].id.n != edge.n - 1:
            return _Piece([], edge)
        wanted = [entry for entry in page if self._is_wanted(feed, entry)][:limit]
        return _Piece(wanted, wanted[-1].id if len(wanted) == limit else page[-1].id)

    async def _logged_from(
        self, partition: int, feed: str, edge: EntryId, limit: int, end: EntryId
    ) -> _Piece:
        page = await self._log.read(
            partition=partition,
            after=EntryId(edge.ms, edge.n - 1),
            before=end,
            limit=SCAN_PAGE_ENTRIES,
            allows_gap=True,
        )
        if not page or page[0].id.n != edge.n:
            return _Piece([], edge)
        wanted = [entry for entry in page if self._is_wanted(feed, entry)][:limit]
        return _Piece(wanted, just_after((wanted if len(wanted) == limit else page)[-1].id))

    async def _reaching(self, partition: int, n: int) -> EntryId:
        """Return the archive's position, which must have come to entry `n`: the stream lacks it."""
        position = await self._past.position(partition)
        if position.n >= n:
            return position
        raise HistoryGap(
            f"partition {partition}: entry {n} is neither in the archive nor in the log.",
            remedy="Name the archive that has it, or restore its segment from a backup.",
        )

    def _is_wanted(self, feed: str, entry: Entry) -> bool:
        event = entry.event
        if not isinstance(event, self._types):
            return False
        conversation = self._projection.conversation(feed)
        return event.conversation == conversation and self._projection.key(event) == feed

    def _decoded(self, partition: int, feed: str, raws: Iterable[RawEntry]) -> list[Entry]:
        """Return those that are what the feed takes: it never had what cannot be decoded."""
        entries = []
        for raw in raws:
            try:
                event = self._log.codec.decode(raw.raw)
            except Exception:  # noqa: BLE001, S112 - an upcaster is anybody's code
                continue
            entry = Entry(partition, raw.id, event, raw.raw)
            if self._is_wanted(feed, entry):
                entries.append(entry)
        return entries


def just_after(entry_id: EntryId) -> EntryId:
    """Return an id above this one and not above the next there may be."""
    return EntryId(entry_id.ms, entry_id.n + 1)
