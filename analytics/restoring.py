"""Bringing back segments that are missing or damaged: from a copy of the archive, else from the log."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path
from typing import Literal, NamedTuple

from analytics.auditing import lost_ranges
from analytics.catalogue import Catalogue
from analytics.copying import Copy, copy_segment
from analytics.inspecting import inspect
from analytics.segment import Coverage, Range, Segment, cover, day_end_ms
from analytics.storage import Storage
from eventlog.connection import in_our_words
from eventlog.errors import HistoryGap
from eventlog.exclusive_lease import ExclusiveLease
from eventlog.ids import START, EntryId
from eventlog.lease import new_owner
from eventlog.log import EventLog
from eventlog.stream_rewriting import LEASE_GROUP

MAX_ROWS = 1_000_000
"""Of a segment that is archived again."""


class Restored(NamedTuple):
    """A file that is there again, or one that is gone because others have what it had."""

    segment: Segment
    source: Literal["backup", "log", "deleted"]


class Left(NamedTuple):
    """Sequences that could not be brought back."""

    partition: int
    first: int
    last: int


async def restore(
    log: EventLog, storage: Storage, backup: Storage | None = None
) -> tuple[list[Restored], list[Left]]:
    """Return what was brought back, and what could not be.

    Every file is read through first. What is sound is not touched; a damaged file is replaced, or
    deleted once others have all of its rows. A backup may bring back what was erased since it was made:
    `erase_again` then. Raises LogUnavailable and its kin, OSError.
    """
    done: list[Restored] = []
    left: list[Left] = []
    for partition in range(log.partition_count):
        lease = ExclusiveLease(log, LEASE_GROUP, partition, new_owner())
        async with lease.hold():
            coverage = await asyncio.to_thread(Catalogue(storage).coverage, partition)
            damaged = await asyncio.to_thread(_damaged, storage, coverage)
            is_cut = await _is_cut(log, coverage, partition)
            if damaged or coverage.gaps or is_cut:
                work = _Partition(log, storage, backup, partition, damaged)
                work.head_n = (await log.heads())[partition].n if is_cut else 0
                left += await work.restore()
                done += work.done
    return done, left


class _Partition:
    def __init__(
        self,
        log: EventLog,
        storage: Storage,
        backup: Storage | None,
        partition: int,
        damaged: set[Segment],
    ) -> None:
        self.done: list[Restored] = []
        self.head_n = 0
        """The last sequence that files must have, where the log does not go on after them."""
        self._log = log
        self._storage = storage
        self._backup = backup
        self._partition = partition
        self._damaged = damaged

    async def restore(self) -> list[Left]:
        if self._backup is not None:
            await asyncio.to_thread(self._from_backup, self._backup)
        for lost in self._lost():
            await self._from_log(lost)
        await asyncio.to_thread(self._delete_damaged)
        return [Left(self._partition, *lost) for lost in self._lost()]

    def _lost(self) -> list[Range]:
        """Return the sequences that no sound file has and one should."""
        coverage = self._coverage()
        lost = lost_ranges(coverage, self._damaged)
        reaches = max([coverage.position.n, *(s.last for s in coverage.segments)])
        if self.head_n > reaches:
            lost.append(Range(reaches + 1, self.head_n))
        return lost

    def _coverage(self) -> Coverage:
        return Catalogue(self._storage).coverage(self._partition)

    def _from_backup(self, backup: Storage) -> None:
        """Take the damaged files of the same names, then whatever has what is missing."""
        there = {s for s in backup.segments() if s.partition == self._partition}
        for segment in sorted(self._damaged & there):
            if inspect(backup, segment) is None:
                self._storage.replace(self._copied(backup, segment), segment)
                self._damaged.discard(segment)
                self.done.append(Restored(segment, "backup"))
        for lost in self._lost():
            for segment in sorted(there - self._damaged):
                overlaps = segment.first <= lost.last and segment.last >= lost.first
                if not overlaps or inspect(backup, segment) is not None:
                    continue
                if self._storage.publish(self._copied(backup, segment), segment):
                    self.done.append(Restored(segment, "backup"))

    def _copied(self, backup: Storage, segment: Segment) -> Path:
        staged = self._storage.stage(segment)
        with backup.path(segment).open("rb") as source, staged.open("wb") as target:
            shutil.copyfileobj(source, target)
            target.flush()
            os.fsync(target.fileno())
        return staged

    async def _from_log(self, lost: Range) -> None:
        """Archive again as much of the range as the log still has from its beginning on."""
        after = self._id_before(lost.first)
        while after is not None and after.n < lost.last:
            first = await self._log.read_raw(self._partition, after, 1)
            if not first or first[0].id.n != after.n + 1:
                return
            last = min(lost.last, after.n + MAX_ROWS, await self._last_of_day(first[0].id.ms))
            draft = Segment(self._partition, after.n + 1, last, first[0].id.ms)
            staged = await asyncio.to_thread(self._storage.stage, draft)
            copy = Copy(
                settings=self._log.settings,
                server_url=self._log.server_url,
                stream=self._log.keys.stream(self._partition),
                after=after,
                draft=draft,
                path=str(staged),
            )
            try:
                end = await asyncio.to_thread(copy_segment, copy, self._log.codec)
            except HistoryGap:  # it was trimmed meanwhile
                return
            assert end is not None  # nobody here stops wanting it
            segment = draft._replace(last_ms=end.ms)
            if segment in self._damaged:
                await asyncio.to_thread(self._storage.replace, staged, segment)
                self._damaged.discard(segment)
            else:
                await asyncio.to_thread(self._storage.publish, staged, segment)
            self.done.append(Restored(segment, "log"))
            after = end

    def _id_before(self, first: int) -> EntryId | None:
        """Return the id of the entry before a sequence, as a file's name tells it."""
        if first == 1:
            return START
        ends = {segment.last: segment.end for segment in self._coverage().segments}
        return ends.get(first - 1)

    async def _last_of_day(self, ms: int) -> int:
        stream = self._log.keys.stream(self._partition)
        with in_our_words(self._log.settings):
            reply = await self._log.client.execute_command(
                "XREVRANGE", stream, f"({day_end_ms(ms)}-0", "-", "COUNT", 1
            )
        return EntryId.parse(reply[0][0]).n

    def _delete_damaged(self) -> None:
        """Delete damaged files of which others have every row."""
        sound = cover(set(self._coverage().segments) - self._damaged)
        for segment in sorted(self._damaged):
            if segment.last <= sound.position.n:
                self._storage.remove(segment)
                self.done.append(Restored(segment, "deleted"))


async def _is_cut(log: EventLog, coverage: Coverage, partition: int) -> bool:
    """Return whether the log does not go on where the last file ends: a later one is missing."""
    head = (await log.heads())[partition]
    end = max([coverage.position, *(s.end for s in coverage.segments)], key=lambda each: each.n)
    following = await log.read_raw(partition, end, 1)
    return end.n < head.n and (not following or following[0].id.n != end.n + 1)


def _damaged(storage: Storage, coverage: Coverage) -> set[Segment]:
    return {segment for segment in coverage.segments if inspect(storage, segment) is not None}
