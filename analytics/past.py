"""The archive as `eventlog.past.Past`: history in stretches, and a conversation's pages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection, Iterator
from contextlib import suppress

from analytics.catalogue import Catalogue, require
from analytics.rows import rebuild
from analytics.segment import Coverage, Range, cover
from analytics.segment_reader import SegmentGone, Wanted
from analytics.storage import Storage
from eventlog.entry import RawEntry
from eventlog.ids import EntryId
from eventlog.past import Stretch

_NOTHING = cover(())
_LAST = 2**63 - 1
_TRIES = 3


class ArchivedPast:
    """What the segments of one storage hold. Files are read in threads."""

    def __init__(self, storage: Storage) -> None:
        self._catalogue = Catalogue(storage)
        self._seen: dict[int, Coverage] = {}

    async def position(self, partition: int) -> EntryId:
        """Return the archive position, START where nothing was archived."""
        return (await asyncio.to_thread(self._catalogue.coverage, partition)).position

    async def read(
        self,
        partition: int,
        after: EntryId,
        until: EntryId | None = None,
        types: Collection[str] | None = None,
    ) -> AsyncGenerator[Stretch]:
        """Yield what was archived after `after`, up to and with `until` or the position, in order.

        With `types` only entries of these types, and those that cannot be decoded. What there is
        is settled once, at the start; while a stretch is worked on, the next is made. Raises
        HistoryGap, naming the range, where a file is missing or damaged.
        """
        stretches = self._catalogue.stretches(partition, after, until, types)
        coming = _next(stretches)
        try:
            while True:
                await asyncio.wait({coming})  # which leaves a thread's work alone when cancelled
                stretch = coming.result()
                if stretch is None:
                    return
                coming = _next(stretches)
                yield stretch
        finally:
            await asyncio.wait({coming})
            if not coming.cancelled():  # otherwise the thread may still be in it
                coming.exception()  # nobody else will ask
                stretches.close()

    async def of_conversation(
        self,
        partition: int,
        conversation: str,
        types: Collection[str],
        *,
        limit: int,
        after: int = 0,
        before: int | None = None,
        newest_first: bool = False,
    ) -> list[RawEntry]:
        """Return up to `limit` of a conversation's entries between two sequences, both exclusive.

        The oldest of them in order, or with `newest_first` the newest, newest first. Raises
        HistoryGap where a file that has to be looked at is missing or damaged.
        """
        within = Range(after + 1, _LAST if before is None else before - 1)
        wanted = Wanted(conversation, frozenset(types), within, newest_first)
        return await asyncio.to_thread(self._find, partition, wanted, limit)

    def _find(self, partition: int, wanted: Wanted, limit: int) -> list[RawEntry]:
        found: list[RawEntry] = []
        seen = self._seen.get(partition, _NOTHING)
        # What lies before a known position needs no new listing, until a file of it was compacted.
        is_known = wanted.within.last <= seen.position.n
        if is_known or not wanted.newest_first:
            with suppress(SegmentGone):
                found = self._find_in(seen, wanted, limit)
                if is_known or len(found) == limit:
                    return found
                first = max(wanted.within.first, seen.position.n + 1)
                wanted = wanted._replace(within=Range(first, wanted.within.last))
        for tries_left in reversed(range(_TRIES)):
            self._seen = self._catalogue.scan()
            seen = self._seen.get(partition, _NOTHING)
            try:
                found += self._find_in(seen, wanted, limit - len(found))
                break
            except SegmentGone:  # compacted since it was listed
                if not tries_left:
                    raise
        if seen.stranded and (wanted.newest_first or len(found) < limit):
            require(seen, partition, min(wanted.within.last, seen.stranded[-1].last))
        return found

    def _find_in(self, coverage: Coverage, wanted: Wanted, limit: int) -> list[RawEntry]:
        found: list[RawEntry] = []
        segments = coverage.holding(wanted.within)
        for segment in reversed(segments) if wanted.newest_first else segments:
            with self._catalogue.open(segment, for_search=True) as reader:
                found += rebuild(reader.find(wanted, limit - len(found)))
            if len(found) == limit:
                break
        return found


def _next(stretches: Iterator[Stretch]) -> asyncio.Task[Stretch | None]:
    return asyncio.create_task(asyncio.to_thread(next, stretches, None))
