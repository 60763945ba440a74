"""Where the next segment ends: decided once, in Redis, before anything is written.

Two archivers that cut differently would write files that overlap. So the first to plan a start
decides for all: a rival, or whoever comes after a crash, finds the plan and writes the same file.
"""

from __future__ import annotations

import asyncio

from analytics.catalogue import Catalogue
from analytics.entry_size import mean_entry_bytes
from analytics.segment import day_end_ms
from eventlog.connection import in_our_words
from eventlog.errors import HistoryGap
from eventlog.ids import START, EntryId
from eventlog.log import EventLog
from eventlog.scripts import load_script


class Plans:
    """The planned segments of a log: a hash per partition, start → last sequence."""

    def __init__(self, log: EventLog, catalogue: Catalogue, max_rows: int, max_bytes: int) -> None:
        self._log = log
        self._catalogue = catalogue
        self._max_rows = max_rows
        self._max_bytes = max_bytes

    async def fix(self, partition: int, position: EntryId, head: EntryId) -> int | None:
        """Return the last sequence of the segment after `position`; None: list the files again.

        They are listed here after the plan is made, because a rival publishes first and forgets its
        plan then: whoever plans that start anew must find the file.
        """
        cut = await self._cut(partition, position, head)
        fix = load_script("analytics", "plan_fix")
        key, start = self._log.keys.archive_plan(partition), str(position.n)
        with in_our_words(self._log.settings):
            planned = int(await fix(self._log.client, [key], [start, str(cut)]))
        coverage = await asyncio.to_thread(self._catalogue.coverage, partition)
        if coverage.position != position:
            await self.forget(partition, position)
            return None
        # A plan beyond the log is from before the server's data were restored from a backup.
        if planned > cut and planned > (await self._log.heads())[partition].n:
            await self.forget(partition, position)
            return None
        return planned

    async def forget(self, partition: int, position: EntryId) -> None:
        """Drop the plan of the segment after `position`."""
        key = self._log.keys.archive_plan(partition)
        with in_our_words(self._log.settings):
            await self._log.client.hdel(key, str(position.n))

    async def forget_before(self, partition: int, position: EntryId) -> None:
        """Drop the plans of segments that are there."""
        key = self._log.keys.archive_plan(partition)
        with in_our_words(self._log.settings):
            starts = await self._log.client.hkeys(key)
            done = [start for start in starts if int(start) < position.n]
            if done:
                await self._log.client.hdel(key, *done)

    async def _cut(self, partition: int, position: EntryId, head: EntryId) -> int:
        """Return where the segment should end: in its day, not too long, before what is there."""
        first = await self._log.read_raw(partition, position, 1)
        if not first or first[0].id.n != position.n + 1:
            raise HistoryGap(
                f"partition {partition}: entry {position.n + 1} is neither in the log nor in the "
                "archive.",
                remedy="Restore the missing segment, or the server's data, from a backup.",
            )
        # A row more than was asked for does no harm; none at all would never end.
        entry_bytes = max(1.0, await mean_entry_bytes(self._log, partition))
        rows = min(self._max_rows, max(1, int(self._max_bytes / entry_bytes)))
        cut = min(head.n, position.n + rows)
        midnight_ms = day_end_ms(first[0].id.ms)
        if head.ms >= midnight_ms:
            cut = min(cut, (await self._last_before(partition, midnight_ms)).n)
        coverage = await asyncio.to_thread(self._catalogue.coverage, partition)
        if coverage.gaps:
            cut = min(cut, coverage.gaps[0].last)
        return cut

    async def _last_before(self, partition: int, ms: int) -> EntryId:
        """Return the id of the last entry that was appended before `ms`; START if there is none."""
        with in_our_words(self._log.settings):
            reply = await self._log.client.execute_command(
                "XREVRANGE", self._log.keys.stream(partition), f"({ms}-0", "-", "COUNT", 1
            )
        return EntryId.parse(reply[0][0]) if reply else START
