"""The compactor: closed days become sorted files, and what a rule has outlived goes.

Per partition, under the lease that erasures take as well, file by file: what is to be written is noted
in Redis before anything is read; the file is written, synced, checked and published create-if-absent;
the note is forgotten. Nothing that was published is changed. What a compacted file has taken the place
of is read no more, and deleted when the grace time is over and the new file was read through once more.

The note is for erasures. A compactor that sleeps longer than its lease lasts could publish what it read
before an erasure; so whoever erases writes what is noted first (`finish_noted`), and then rewrites it with
the rest. The sleeper finds its file there already and throws its own away.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Mapping
from datetime import date
from typing import Any, NamedTuple

import msgspec

from analytics.catalogue import Catalogue
from analytics.compacted_file import Work, count_removable, write_compacted
from analytics.compaction_plan import closed_runs, cuts
from analytics.inspecting import inspect
from analytics.keeping import check_rules, outlived
from analytics.segment import Coverage, Segment
from analytics.segment_reader import SegmentGone
from analytics.steps import Reached, go_on
from analytics.storage import Storage
from eventlog.connection import in_our_words
from eventlog.errors import EventLogError, HistoryGap
from eventlog.exclusive_lease import ExclusiveLease
from eventlog.ids import EntryId
from eventlog.lease import new_owner
from eventlog.log import EventLog
from eventlog.logs import get_logger
from eventlog.stream_rewriting import LEASE_GROUP

GRACE_S = 600.0
"""A query that listed the files before they were compacted may still be at them."""

INTERVAL_S = 300.0
"""Between two looks for something to do; a day closes once a day."""

_log = get_logger("compactor")


class Progress(NamedTuple):
    """What was done last, and how far the partitions are."""

    written: Segment | None
    done_count: int
    partition_count: int


class Report(NamedTuple):
    """What a run did."""

    written: tuple[Segment, ...]
    removed_by_rule: Mapping[str, int]
    """Rows that rules took out, by type."""
    deleted: tuple[Segment, ...]
    """Files that compacted ones have taken the place of."""
    waiting: tuple[Segment, ...]
    """Files to be deleted when the grace time is over."""
    failures: tuple[str, ...]
    """What could not be done, a sentence each; the rest was."""


class Compactor:
    """Compacts the closed days of an archive and applies the rules. Any number may run at once.

    `keep_days` defaults to the log's setting. Raises ConfigurationError for a rule that may not be.
    """

    def __init__(
        self,
        log: EventLog,
        storage: Storage,
        *,
        keep_days: Mapping[str, int] | None = None,
        grace_s: float = GRACE_S,
        owner: str | None = None,
        reached: Reached = go_on,
    ) -> None:
        self._keep_days = log.settings.archive_keep_days if keep_days is None else keep_days
        check_rules(self._keep_days)
        self._log = log
        self._catalogue = Catalogue(storage)
        self._grace_ms = grace_s * 1000
        self._owner = owner or new_owner()
        self._reached = reached
        self._ruled: set[tuple[Segment, tuple[str, ...]]] = set()
        """Files in which there is nothing for a rule on these types."""

    async def run(self, stop: asyncio.Event) -> None:
        """Do what is due, until `stop` is set. Faults are logged and tried again."""
        failures: tuple[str, ...] = ()
        while not stop.is_set():
            try:
                report = await self.run_once(stop=stop)
                for failure in report.failures:
                    if failure not in failures:
                        _log.error("compaction_failed", error=failure)
                failures = report.failures
            except (EventLogError, OSError) as error:
                _log.warning("compactor_interrupted", error=str(error))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), INTERVAL_S)

    async def run_once(
        self,
        days: Collection[date] | None = None,
        *,
        stop: asyncio.Event | None = None,
        tell: Callable[[Progress], None] = lambda _: None,
    ) -> Report:
        """Return what was done of all that is due, or of these days. Raises LogUnavailable and its kin.

        What goes wrong with one partition is in the report and does not stop the others.
        """
        report = Report((), {}, (), (), ())
        there = await asyncio.to_thread(self._catalogue.scan)
        for done, partition in enumerate(there):
            tell(Progress(None, done, len(there)))
            try:
                while stop is None or not stop.is_set():
                    wrote = await self._one(partition, days)
                    if wrote is None:
                        break
                    segment, removed = wrote
                    report = _with_file(report, segment, removed)
                    tell(Progress(segment, done, len(there)))
                deleted, waiting = await self._tidy(partition, days)
                report = report._replace(
                    deleted=report.deleted + deleted, waiting=report.waiting + waiting
                )
            except (HistoryGap, OSError) as error:
                report = report._replace(failures=(*report.failures, str(error)))
        return report

    async def due(self, days: Collection[date] | None = None) -> list[Work]:
        """Return what would be written now; nothing is changed."""
        works: list[Work] = []
        heads = await self._log.heads()
        for partition, coverage in (await asyncio.to_thread(self._catalogue.scan)).items():
            head = heads[partition] if partition < len(heads) else coverage.position
            works += await asyncio.to_thread(self._due, coverage, head, days)
        return works

    # --- one partition ---------------------------------------------------------------------------

    async def _one(
        self, partition: int, days: Collection[date] | None
    ) -> tuple[Segment, Mapping[str, int]] | None:
        """Write the next file of a partition; return it with what rules took out, None: none is due.

        The lease is given back after each, so that an erasure waits for seconds at most.
        """
        lease = ExclusiveLease(self._log, LEASE_GROUP, partition, self._owner)
        async with lease.hold():
            await finish_noted(self._log, self._catalogue, partition, self._reached)
            head = (await self._log.heads())[partition]
            coverage = await asyncio.to_thread(self._catalogue.coverage, partition)
            works = await asyncio.to_thread(self._due, coverage, head, days, 1)
            if not works or not await lease.is_ours():
                return None
            await _note(self._log, works[0])
            self._reached("planned")
            facts = await _finish(self._log, self._catalogue, works[0], self._reached)
        _log.info("segment_compacted", segment=works[0].target.name, files=len(works[0].sources))
        before = await asyncio.to_thread(self._removed, works[0].sources)
        removed = {} if facts is None else facts
        gone = {name: count - before.get(name, 0) for name, count in removed.items()}
        return works[0].target, {name: count for name, count in gone.items() if count}

    def _removed(self, sources: tuple[Segment, ...]) -> dict[str, int]:
        """Return what rules had taken out of these files."""
        found: dict[str, int] = {}
        for source in sources:
            if source.is_compacted:
                with contextlib.suppress(SegmentGone), self._catalogue.open(source) as reader:
                    for name, count in reader.facts.removed.items():
                        found[name] = found.get(name, 0) + count
        return found

    def _due(
        self,
        coverage: Coverage,
        head: EntryId,
        days: Collection[date] | None,
        limit: int | None = None,
    ) -> list[Work]:
        """Return up to `limit` files that are due, oldest first."""
        works: list[Work] = []
        now_ms = self._log.clock.now_us() // 1000
        for run in closed_runs(coverage, head.n, now_ms):
            if days is None or run[0].day in days:
                removing = outlived(run[0], self._keep_days, now_ms)
                works += [work._replace(removing=removing) for work in self._cut(run, coverage)]
                if limit is not None and len(works) >= limit:
                    return works[:limit]
        for segment in coverage.chosen if self._keep_days else ():
            removing = outlived(segment, self._keep_days, now_ms)
            if not segment.is_compacted or not removing or (segment, removing) in self._ruled:
                continue
            if days is not None and segment.day not in days:
                continue
            if count_removable(self._catalogue, segment, removing):
                target = segment._replace(revision=segment.revision + 1)
                works.append(Work(target, (segment,), removing))
            else:
                self._ruled.add((segment, removing))
            if limit is not None and len(works) >= limit:
                break
        return works

    def _cut(self, run: tuple[Segment, ...], coverage: Coverage) -> list[Work]:
        """Return the files that a run of others becomes, without those that are there already."""
        byte_count = 0
        for segment in run:
            with self._catalogue.open(segment) as reader:
                byte_count += reader.byte_count
        works = []
        for first, last in cuts(run[0].first, run[-1].last, byte_count):
            sources = tuple(s for s in run if s.last >= first and s.first <= last)
            target = Segment(run[0].partition, first, last, self._time_ms(sources[-1], last), True)
            if target not in coverage.spare:
                works.append(Work(target, sources))
        return works

    def _time_ms(self, segment: Segment, n: int) -> int:
        """Return when an entry of a segment was appended."""
        if n == segment.last:
            return segment.last_ms
        with self._catalogue.open(segment) as reader:
            [table] = reader.pieces(n - 1, n)
        return int(table["appended_at"].cast("int64")[0].as_py()) // 1000

    async def _tidy(
        self, partition: int, days: Collection[date] | None
    ) -> tuple[tuple[Segment, ...], tuple[Segment, ...]]:
        """Delete what compacted files have taken the place of; return that, and what is to wait."""
        deleted: list[Segment] = []
        waiting: list[Segment] = []
        coverage = await asyncio.to_thread(self._catalogue.coverage, partition)
        superseded = [s for s in coverage.superseded if days is None or s.day in days]
        if not superseded:
            return (), ()
        lease = ExclusiveLease(self._log, LEASE_GROUP, partition, self._owner)
        sound: set[Segment] = set()
        async with lease.hold():
            for segment in superseded:
                if not await asyncio.to_thread(self._may_go, segment, coverage, sound):
                    waiting.append(segment)
                elif await lease.is_ours():
                    await asyncio.to_thread(self._catalogue.storage.remove, segment)
                    self._reached("removed")
                    deleted.append(segment)
        return tuple(deleted), tuple(waiting)

    def _may_go(self, segment: Segment, coverage: Coverage, sound: set[Segment]) -> bool:
        """Return whether what took a segment's place is old enough, having read it through.

        `sound` is what was read through just now, and is added to.

        Raises HistoryGap where that is damaged: the segment may be all there is.
        """
        now_ms = self._log.clock.now_us() // 1000
        for compacted in coverage.holding_of(segment):
            with self._catalogue.open(compacted) as reader:
                if now_ms - reader.facts.compacted_at_ms < self._grace_ms:
                    return False
            if compacted not in sound:
                damage = inspect(self._catalogue.storage, compacted)
                if damage is not None:
                    raise damage.as_error()
                sound.add(compacted)
        return True


def _with_file(report: Report, segment: Segment, removed: Mapping[str, int]) -> Report:
    names = report.removed_by_rule.keys() | removed.keys()
    summed = {n: report.removed_by_rule.get(n, 0) + removed.get(n, 0) for n in sorted(names)}
    return report._replace(written=(*report.written, segment), removed_by_rule=summed)


# --- notes: what is being written, for whoever has to know


class _Noted(msgspec.Struct, frozen=True):
    """What becomes of which files, as Redis has it."""

    sources: tuple[str, ...]
    removing: tuple[str, ...] = ()


async def _note(log: EventLog, work: Work) -> None:
    noted = _Noted(tuple(source.name for source in work.sources), work.removing)
    key = log.keys.compaction_plan(work.target.partition)
    with in_our_words(log.settings):
        await log.client.hset(key, work.target.name, msgspec.json.encode(noted))


async def finish_noted(
    log: EventLog, catalogue: Catalogue, partition: int, reached: Reached = go_on
) -> int:
    """Write what is noted of a partition, by whomever; return how many files.

    Call it under the lease of LEASE_GROUP. Raises HistoryGap where a source is damaged.
    """
    with in_our_words(log.settings):
        notes: Any = await log.client.hgetall(log.keys.compaction_plan(partition))
    for name, text in sorted(notes.items()):
        noted = msgspec.json.decode(text, type=_Noted)
        target = Segment.parse(name.decode())
        sources = [Segment.parse(source) for source in noted.sources]
        assert target is not None
        assert None not in sources
        work = Work(target, tuple(s for s in sources if s is not None), noted.removing)
        try:
            await _finish(log, catalogue, work, reached)
        except SegmentGone:  # other files have long taken the place of its sources
            await _forget(log, work)
    return len(notes)


async def _finish(
    log: EventLog, catalogue: Catalogue, work: Work, reached: Reached
) -> Mapping[str, int] | None:
    """Return what rules took out in all of the file that was written; None where it was there."""
    there = await asyncio.to_thread(catalogue.coverage, work.target.partition)
    facts = None
    if work.target not in {*there.chosen, *there.spare, *there.stranded}:
        now_ms = log.clock.now_us() // 1000
        facts = await asyncio.to_thread(write_compacted, catalogue, work, now_ms, reached)
        reached("published")
    await _forget(log, work)
    reached("forgotten")
    return None if facts is None else facts.removed


async def _forget(log: EventLog, work: Work) -> None:
    with in_our_words(log.settings):
        await log.client.hdel(log.keys.compaction_plan(work.target.partition), work.target.name)
