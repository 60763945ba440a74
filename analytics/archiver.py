"""The archiver: entries leave the log for segments, each exactly once.

Per partition, under a lease: the position is what the files say; the cut (the segment's last
sequence) is fixed in Redis before anything is written; the segment is written, synced, checked and
published create-if-absent; then the group's position is moved, which is the acknowledgement. Whoever
comes after a crash finds the cut and writes the same file, or finds the file and moves on.

Entries are read by range, not through the consumer group: the position is kept by the files, so a
pending list of up to a million ids would only cost the server memory. The group exists so that
retention and lag see the archiver like any other reader.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from types import TracebackType
from typing import NamedTuple, Self, TypeVar

from analytics.catalogue import Catalogue
from analytics.copiers import Copiers
from analytics.copying import Copy
from analytics.entry_size import mean_entry_bytes
from analytics.plan import Plans
from analytics.segment import Segment
from analytics.status import PartitionStatus, archive_status, oldest_age_ms
from analytics.steps import Reached, go_on
from analytics.storage import Storage
from eventlog.errors import ArchiveUnavailable, EventLogError, LogUnavailable
from eventlog.group import GroupReader
from eventlog.ids import EntryId
from eventlog.lease import LeaseKeeper
from eventlog.log import EventLog
from eventlog.logs import get_logger

__all__ = ["GROUP", "Archiver", "PartitionStatus", "Rolling"]

GROUP = "archiver"
POLL_INTERVAL_S = 0.5
LONGEST_PAUSE_S = 60.0
"""Between two attempts while the archive is away; each pause is twice the one before."""

SIDE_BY_SIDE = 2
"""Partitions under way at once, or one more than there are processes: while one is published, the
others are copied. More would only make a stop take longer."""

T = TypeVar("T")
_log = get_logger("archiver")


class Rolling(NamedTuple):
    """When a segment is due, and how long it may get."""

    rows: int = 50_000
    """Unarchived entries of a partition that make a segment due: the live tail stays quick."""
    age_ms: int = 600_000
    """Age of the oldest unarchived entry that makes one due: no more than 144 files a day."""
    bytes: int = 64 * 1024**2
    """What unarchived entries take in the server that makes one due."""
    max_rows: int = 1_000_000
    """The longest segment, when there is a backlog."""
    max_bytes: int = 1024**3
    """The same by what its entries take in the server; about a tenth of that as a file."""


class _Settled(NamedTuple):
    """Group and plans agreed with the files under this lease, whose position was this."""

    generation: int
    position: EntryId


class Archiver:
    """Archives this process's share of the partitions. Close it to hand them to others at once.

    Segments are copied in threads, or by the `copiers` it is given, which stay their owner's.
    """

    def __init__(
        self,
        log: EventLog,
        storage: Storage,
        *,
        rolling: Rolling = Rolling(),  # noqa: B008 - immutable
        owner: str | None = None,
        copiers: Copiers | None = None,
        reached: Reached = go_on,
    ) -> None:
        self.catalogue = Catalogue(storage)
        self._log = log
        self._storage = storage
        self._rolling = rolling
        self._reached = reached
        self._leases = LeaseKeeper(log, GROUP, owner)
        self._settled: dict[int, _Settled] = {}
        self._errors: dict[int, str] = {}
        self._plans = Plans(log, self.catalogue, rolling.max_rows, rolling.max_bytes)
        self._copiers = copiers or Copiers()
        self._stop = asyncio.Event()
        self._away: str | None = None
        """Why nothing can be archived now, nor could at the last attempt."""
        self._pause_s = POLL_INTERVAL_S

    # --- for callers ---------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event) -> None:
        """Archive what is due, until `stop` is set. Faults are logged and tried again.

        While the archive is away, less and less often; the entries wait in the log.
        """
        self._stop = stop
        await asyncio.to_thread(self._storage.sweep)
        while not stop.is_set():
            try:
                async with self._leased():
                    while not stop.is_set():
                        if not await self._round():
                            await self._copiers.close()
                        await self._pause()
            except EventLogError as error:
                _log.warning("archiver_interrupted", error=str(error))
                await self._pause()

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), self._pause_s)

    async def run_once(self, min_rows: int = 1) -> list[Segment]:
        """Return the segments published of the partitions that this process may hold now.

        Everything up to the heads at call time, of partitions with at least `min_rows` unarchived.
        """
        async with self._leased():
            heads = await self._log.heads()

            async def archive(partition: int) -> list[Segment]:
                position = await self._settle(partition)
                if heads[partition].n - position.n < max(1, min_rows):
                    return []
                return await self._archive(partition, heads[partition])

            published = await self._side_by_side(self._leases.held, archive)
        return [segment for segments in published for segment in segments]

    async def archive_until(self, heads: Sequence[EntryId]) -> None:
        """Return when every partition is archived up to its head, whoever did it."""
        async with self._leased():
            while True:
                there = await asyncio.to_thread(self.catalogue.scan)
                missing = [
                    partition
                    for partition, head in enumerate(heads)
                    if partition not in there or there[partition].position.n < head.n
                    if head.n > 0
                ]
                if not missing:
                    break
                mine = [partition for partition in missing if partition in self._leases.held]
                await self._side_by_side(mine, lambda p: self._archive(p, heads[p]))
                if not mine:
                    await self._log.clock.sleep(POLL_INTERVAL_S / 10)
            await self._side_by_side(self._leases.held, self._settle)

    async def status(self) -> list[PartitionStatus]:
        """Return how far each partition is archived; needs no lease."""
        return await archive_status(self._log, self.catalogue, self._errors)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Give the leases back, so that others take over at once; without a server they lapse."""
        self._settled.clear()
        with contextlib.suppress(LogUnavailable):
            await self._leases.release_all()

    # --- one partition -------------------------------------------------------------------------

    async def _round(self) -> bool:
        """Archive what is due of every partition held; note and log what goes wrong.

        Returns whether anything was published.
        """
        heads = await self._log.heads()
        was_away, self._away = self._away, None

        async def attempt(partition: int) -> bool:
            published: list[Segment] = []
            if self._away:  # as another partition has just found: one time-out is enough
                self._errors[partition] = self._away
                return False
            try:
                if self._may_go_on(partition) and await self._is_due(partition, heads[partition]):
                    published = await self._archive(partition, heads[partition])
                self._errors.pop(partition, None)
            except ArchiveUnavailable as error:
                self._errors[partition] = self._away = str(error)
            except (EventLogError, OSError) as error:
                if self._errors.get(partition) != str(error):
                    _log.error("archive_failed", partition=partition, error=str(error))
                self._errors[partition] = str(error)
            return bool(published)

        has_published = any(await self._side_by_side(self._leases.held, attempt))
        self._back_off(was_away)
        return has_published

    def _back_off(self, was_away: str | None) -> None:
        """Settle the pause before the next round; say when the archive goes away and comes back."""
        if self._away is None:
            self._pause_s = POLL_INTERVAL_S
        else:
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        if self._away and not was_away:
            _log.error("archive_away", error=self._away)
        elif was_away and not self._away:
            _log.info("archive_back")

    async def _is_due(self, partition: int, head: EntryId) -> bool:
        # The position of the last look is good enough to ask by: no listing of files twice a second.
        settled = self._settled.get(partition)
        if settled is None or settled.generation != self._generation(partition):
            position = await self._settle(partition)
        else:
            position = settled.position
        waiting_count = head.n - position.n
        if waiting_count >= self._rolling.rows:
            return True
        if waiting_count > 0:
            waiting_bytes = waiting_count * await mean_entry_bytes(self._log, partition)
            if waiting_bytes >= self._rolling.bytes:
                return True
        age_ms = await oldest_age_ms(self._log, partition, position, head)
        return position < head and age_ms >= self._rolling.age_ms

    def _generation(self, partition: int) -> int:
        lease = self._leases.held.get(partition)
        return lease.generation if lease else 0

    async def _settle(self, partition: int) -> EntryId:
        """Return the position, having brought group and plans in line with it after a change.

        What a crash between publishing and acknowledging left undone is done here.
        """
        coverage = await asyncio.to_thread(self.catalogue.coverage, partition)
        position = coverage.position
        settled = self._settled.get(partition)
        generation = self._generation(partition)
        if settled is None or settled.generation != generation:
            if coverage.chosen:  # before the group says so: retention trims by it
                await asyncio.to_thread(self._storage.sync, coverage.chosen[-1])
            reader = GroupReader(self._log, GROUP, partition)
            await reader.ensure(position)
            await reader.move(position)
            await self._plans.forget_before(partition, position)
        self._settled[partition] = _Settled(generation, position)
        return position

    async def _archive(self, partition: int, head: EntryId) -> list[Segment]:
        """Return the segments published to bring the partition up to `head`."""
        published: list[Segment] = []
        position = await self._settle(partition)
        while position.n < head.n and self._may_go_on(partition):
            last = await self._plans.fix(partition, position, head)
            if last is not None:
                self._reached("planned")
                segment = await self._write(partition, position, last)
                if segment is None:
                    break
                published.append(segment)
            position = await self._settle(partition)
        return published

    def _may_go_on(self, partition: int) -> bool:
        return partition in self._leases.held and not self._stop.is_set()

    async def _write(self, partition: int, position: EntryId, last: int) -> Segment | None:
        """Return the segment, published and acknowledged; None where the lease was lost."""
        first = (await self._log.read_raw(partition, position, 1))[0].id
        draft = Segment(partition, first.n, last, first.ms)
        staged = await asyncio.to_thread(self._storage.stage, draft)
        copy = Copy(
            settings=self._log.settings,
            server_url=self._log.server_url,
            stream=self._log.keys.stream(partition),
            after=position,
            draft=draft,
            path=str(staged),
        )
        try:
            end = await self._copiers.copy(copy, self._log.codec, self._reached)
        except (Exception, asyncio.CancelledError):
            staged.unlink(missing_ok=True)
            raise
        if partition not in self._leases.held:
            staged.unlink(missing_ok=True)
            return None
        self._reached("written")
        segment = draft._replace(last_ms=end.ms)
        await asyncio.to_thread(self._storage.publish, staged, segment, self._reached)
        self._reached("published")
        await GroupReader(self._log, GROUP, partition).move(segment.end)
        self._reached("moved")
        await self._plans.forget(partition, position)
        _log.info("segment_published", segment=segment.name, rows=segment.row_count)
        return segment

    # --- several partitions ----------------------------------------------------------------------

    async def _side_by_side(
        self, partitions: Iterable[int], work: Callable[[int], Awaitable[T]]
    ) -> list[T]:
        """Return what `work` returns for each partition, a few at a time.

        While one segment is compressed and synced, the next is read. All are worked on even where
        one fails; then its error is raised.
        """
        room = asyncio.Semaphore(max(SIDE_BY_SIDE, self._copiers.process_count + 1))

        async def one(partition: int) -> T:
            async with room:
                return await work(partition)

        outcomes = await asyncio.gather(*map(one, sorted(partitions)), return_exceptions=True)
        results: list[T] = []
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
            results.append(outcome)
        return results

    @contextlib.asynccontextmanager
    async def _leased(self) -> AsyncIterator[None]:
        """Hold this process's share and renew it for as long as the block runs."""
        await self._leases.refresh()
        beat = asyncio.create_task(self._renew())
        try:
            yield
        finally:
            beat.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await beat

    async def _renew(self) -> None:
        while True:
            await self._log.clock.sleep(self._leases.beat_s)
            try:
                await self._leases.refresh()
            except EventLogError as error:
                # Without an answer the leases lapse by themselves; rivals write the same files.
                _log.warning("lease_not_renewed", error=str(error))
