"""The fold once more, in memory: a read model as it was, or as it should be. Writes nothing."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from typing import NamedTuple

from eventlog.entry import RawEntry
from eventlog.errors import HistoryGap, InvalidQuery
from eventlog.ids import EntryId
from eventlog.lease import Lease
from eventlog.log import EventLog
from eventlog.past import Past, Stretch
from projections.folding.pipeline import Pipeline, never
from projections.folding.source import archived, types_of
from projections.folding.target import Target
from projections.projection import Projection
from projections.storing.build import Build
from projections.storing.memory_models import MemoryModels

BATCH_ENTRIES = 4000


class Moment(NamedTuple):
    """Where to stop: after everything appended up to a time, or after a sequence per partition."""

    time_us: int | None = None
    """By the server's clock, which the entry ids carry; µs UTC."""
    sequences: Mapping[int, int] | None = None
    """Of the partitions named, the last sequence to fold; the others are left out."""

    def covers(self, partition: int, entry_id: EntryId) -> bool:
        """Return whether an entry was there by then."""
        if self.time_us is not None and entry_id.ms * 1000 > self.time_us:
            return False
        return self.sequences is None or entry_id.n <= self.sequences.get(partition, 0)


NOW = Moment()


def replayed(projection: Projection) -> Build:
    """Return the build that a projection is folded into in memory."""
    return Build(projection.name, projection.version, "0")


async def state_at(
    log: EventLog,
    projection: Projection,
    moment: Moment = NOW,
    *,
    past: Past | None = None,
    partitions: Iterable[int] | None = None,
) -> MemoryModels:
    """Return a projection's read model as it was at a moment, folded anew from the start.

    Give it to a view as its store: `Sessions(log, await state_at(log, SESSIONS, moment))`. All of
    the model is held in memory. Raises HistoryGap where an entry is neither in the archive nor in
    the log, InvalidQuery for a partition that is not there.
    """
    models = MemoryModels()
    unknown = set(moment.sequences or ()) - set(range(log.partition_count))
    if unknown:
        raise InvalidQuery(
            f"there is no partition {min(unknown)}.",
            remedy=f"They are 0 to {log.partition_count - 1}.",
        )
    for partition in range(log.partition_count) if partitions is None else partitions:
        replay = Replay(log, projection, models, partition, past)
        await replay.start()
        await replay.advance(moment)
    return models


class Replay:
    """The fold of one partition in memory, which can be taken further step by step."""

    def __init__(
        self,
        log: EventLog,
        projection: Projection,
        models: MemoryModels,
        partition: int,
        past: Past | None = None,
    ) -> None:
        self.build = replayed(projection)
        self._log = log
        self._projection = projection
        self._models = models
        self._partition = partition
        self._past = past
        self._pipeline = Pipeline(
            log,
            models,
            [Target(projection, self.build)],
            Lease("replay", partition, "replay", 0),
            EntryId(0, 0),
            moves_group=False,
            parks=never,
            batch_entries=BATCH_ENTRIES,
        )

    async def start(self) -> None:
        """Make room for the model."""
        await self._models.claim(self._partition, [self.build])

    @property
    def position(self) -> EntryId:
        """The last entry folded."""
        return self._pipeline.position

    async def advance(self, moment: Moment) -> None:
        """Fold on, up to the moment or the end of the log."""
        async with aclosing(self._stretches()) as stretches:
            async for stretch, in_stream in stretches:
                there = _until(stretch, moment, self._partition)
                if there is None:
                    break
                await self._pipeline.put(there, in_stream=in_stream)
                if there.end != stretch.end:
                    break
        await self._pipeline.flush()

    async def _stretches(self) -> AsyncGenerator[tuple[Stretch, bool]]:
        """Yield what follows the position, and whether it is of the stream."""
        log, partition = self._log, self._partition
        types = types_of(log, self._projection)
        while True:
            begun_at = self.position
            old = archived(log, self._past, partition, self.position, None, types)
            async with aclosing(old) as stretches:
                async for stretch in stretches:
                    yield stretch, False
            head = (await log.heads())[partition]
            while self.position < head:
                limit = self._pipeline.batch_limit
                entries = await log.read_raw(partition, self.position, limit, head)
                if not entries or entries[0].id.n != self.position.n + 1:
                    upto = entries[0].id.n - 1 if entries else head.n
                    break
                yield Stretch(entries, entries[-1].id), True
            else:
                return
            # What was trimmed meanwhile was archived before, unless it is truly gone.
            if self.position == begun_at:
                raise HistoryGap(
                    f"partition {partition}: entries {self.position.n + 1} to {upto} are neither "
                    "in the archive nor in the log.",
                    remedy="Restore the archive's missing segments, or the server's data.",
                )


def _until(stretch: Stretch, moment: Moment, partition: int) -> Stretch | None:
    """Return the part of a stretch that was there by the moment, None where nothing of it was."""
    if moment.covers(partition, stretch.end):
        return stretch
    entries: list[RawEntry] = [e for e in stretch.entries if moment.covers(partition, e.id)]
    return Stretch(entries, entries[-1].id) if entries else None
