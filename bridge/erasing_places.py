"""Finding what is to be erased in the log and the archive, and rewriting it there, round by round."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from analytics.catalogue import Catalogue
from analytics.compaction import finish_noted
from analytics.erasing import Changes, rewrite_segment, segment_changes, write_planned
from analytics.past import ArchivedPast
from analytics.segment import Segment
from analytics.storage import Storage
from bridge.erasure_run import Progress, Run
from consumers.erasing import blank_records
from eventlog.errors import Fenced
from eventlog.exclusive_lease import ExclusiveLease
from eventlog.ids import START
from eventlog.lease import new_owner
from eventlog.log import EventLog
from eventlog.logs import get_logger
from eventlog.stream_rewriting import LEASE_GROUP, StreamRewriter
from eventlog.vocabulary import SessionStarted
from projections.folding.letters import POISON_CONVERSATION

MAX_ROUNDS = 10
"""Two are usual: one that finds, one that finds no more."""

PAGE_ENTRIES = 1000

_log = get_logger("erasing")


class Places:
    """The log and the archive of one call, partition by partition.

    `begin` is awaited before anything is changed, and when a person's sessions became known late: it
    records the run in the ledger.
    """

    def __init__(
        self,
        log: EventLog,
        storage: Storage,
        run: Run,
        *,
        begin: Callable[[], Awaitable[None]],
        tell: Callable[[Progress], None],
        reached: Callable[[str], None],
    ) -> None:
        self._log = log
        self._storage = storage
        self._past = ArchivedPast(storage)
        self._run = run
        self._begin = begin
        self._tell = tell
        self._reached = reached
        self._owner = new_owner()
        last = log.partition_of(POISON_CONVERSATION)
        self.partitions = [p for p in range(log.partition_count) if p != last] + [last]
        """In order; that of letters of unreadable entries, whose origin may be anywhere, last."""

    # --- looking ---------------------------------------------------------------------------------

    async def learn_sessions(self) -> None:
        """Find the sessions of the people sought, wherever their start stands."""
        redactor = self._run.redactor
        if not self._run.selection.seeks_people:
            return
        types = [str(SessionStarted.__struct_config__.tag)]
        for done, partition in enumerate(self.partitions):
            self._tell(Progress("sessions", done, len(self.partitions)))
            async for stretch in self._past.read(partition, START, types=types):
                for entry in stretch.entries:
                    redactor.learn(partition, entry)
            after = START
            while page := await self._log.read_raw(partition, after, PAGE_ENTRIES):
                for entry in page:
                    redactor.learn(partition, entry)
                after = page[-1].id

    async def survey(self) -> None:
        """Count what would be changed."""
        for done, partition in enumerate(self.partitions):
            self._tell(Progress("log and archive", done, len(self.partitions)))
            for segment in await asyncio.to_thread(_segments, self._storage, partition):
                changes = await self._changes(segment)
                self._run.count_segment(sum(map(len, changes.values())))
            rewriter = StreamRewriter(self._log, partition, self._lease(partition))
            self._run.entry_count += await rewriter.changes(self._run.change(partition))

    async def _changes(self, segment: Segment) -> Changes:
        change, concerns = self._run.change(segment.partition), self._run.redactor.concerns
        return await asyncio.to_thread(segment_changes, self._storage, segment, change, concerns)

    # --- changing --------------------------------------------------------------------------------

    async def rewrite(self) -> bool:
        """Rewrite until nothing is found; return whether it came to that. Raises Fenced."""
        run = self._run
        for _ in range(MAX_ROUNDS):
            count, erased_count = 0, len(run.redactor.erased)
            for done, partition in enumerate(self.partitions):
                self._tell(Progress("log", done, len(self.partitions)))
                count += await self._in_log(partition)
            for done, partition in enumerate(self.partitions):
                self._tell(Progress("archive", done, len(self.partitions)))
                count += await self._in_archive(partition)
            # Copies of what was found late, and what was said in a session that became known late,
            # may stand before it.
            is_all_known = erased_count == len(run.redactor.erased) and not run.needs_round
            if run.needs_round:
                await self._begin()
            run.needs_round = False
            if not count and is_all_known:
                return True
        _log.warning("erasure_incomplete", rounds=MAX_ROUNDS)
        return False

    def _lease(self, partition: int) -> ExclusiveLease:
        return ExclusiveLease(self._log, LEASE_GROUP, partition, self._owner)

    async def _in_log(self, partition: int) -> int:
        """Return how many entries and records were changed of a partition's log."""
        lease, change = self._lease(partition), self._run.change(partition)
        async with lease.hold():
            rewriter = StreamRewriter(self._log, partition, lease, self._reached)
            count = await rewriter.changes(change)
            if count:
                await self._begin()
                await rewriter.rewrite(change)
            else:
                await rewriter.discard()
        self._run.entry_count += count
        records = await blank_records(self._log, partition, self._run.is_erased(partition))
        self._run.record_count += records
        return count + records

    async def _in_archive(self, partition: int) -> int:
        """Return how many rows were changed of a partition's archive.

        Under the lease: of two who rewrite one segment, the later would bring back what the earlier
        took out.
        """
        publish = await write_planned(self._log, self._storage, partition)
        if await asyncio.to_thread(publish):
            self._reached("plan_written")
        total, lease = 0, self._lease(partition)
        async with lease.hold():
            # A compactor that sleeps may hold what was read before this: its file is to be there first.
            await finish_noted(self._log, Catalogue(self._storage), partition)
            for segment in await asyncio.to_thread(_segments, self._storage, partition):
                stamp = await asyncio.to_thread(_stamp, self._storage.path(segment))
                if stamp is not None and self._run.clean.get(segment) != stamp:
                    count = await self._in_segment(segment, lease)
                    total += count
                    if not count:
                        self._run.clean[segment] = stamp
        return total

    async def _in_segment(self, segment: Segment, lease: ExclusiveLease) -> int:
        """Return how many rows were changed of a segment."""
        changes = await self._changes(segment)
        count = sum(map(len, changes.values()))
        if count:
            await self._begin()
            if not await lease.is_ours():
                raise Fenced(
                    f"partition {segment.partition} is being rewritten by another process.",
                    remedy="Let it end, then erase again.",
                )
            work = partial(rewrite_segment, self._storage, segment, changes, self._log.codec)
            await asyncio.to_thread(work)
            self._reached("segment_replaced")
            self._run.count_segment(count)
        return count


def _segments(storage: Storage, partition: int) -> list[Segment]:
    """Return every file of a partition, in order; also those that nothing reads any more."""
    found = Catalogue(storage).scan().get(partition)
    return sorted({*found.chosen, *found.spare, *found.stranded}) if found else []


def _stamp(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from one that takes its place; None where it is gone."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_mtime_ns, stat.st_ino
