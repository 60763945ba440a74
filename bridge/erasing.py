"""Erasure: the content of a person's messages goes, every sequence stays accounted for.

The ledger is written first: it knows what to look for when a backup is restored, and what was cut
short. Then each partition's stream is rewritten, then the segments, since archivers copy from the
stream; round by round, until a round finds nothing. Then the read models are made anew, the server's
files are written anew, and an event says that it was done. Each step may be cut short and done again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from analytics.catalogue import Catalogue
from analytics.erasing import (
    forget_temporary,
    rewrite_segment,
    segment_changes,
    write_planned,
)
from analytics.past import ArchivedPast
from analytics.segment import Segment
from analytics.storage import DirectoryStorage, Storage
from consumers.erasing import blank_records, in_hand_count
from eventlog.entry import RawEntry
from eventlog.erasure_ledger import LEDGER_NAME, Ledger, Recorded, State
from eventlog.erasure_scope import Scope, Selection, Whose
from eventlog.errors import ConfigurationError
from eventlog.exclusive_lease import ExclusiveLease
from eventlog.ids import START, EntryId
from eventlog.lease import new_owner
from eventlog.log import EventLog
from eventlog.logs import get_logger
from eventlog.redactor import Redactor
from eventlog.server_files import ServerFiles, rewrite_files
from eventlog.stream_rewriting import StreamRewriter
from eventlog.tasks import end
from eventlog.vocabulary import ErasureCompleted, SessionStarted
from projections.building.rebuilding import check_history
from projections.building.renewing import renew, stored_projections
from projections.builtin import DEFAULT_PROJECTIONS
from projections.folding.letters import POISON_CONVERSATION
from projections.projection import Projection

GROUP = "eraser"
"""Whose lease keeps two from rewriting one partition."""

ERASURES_CONVERSATION = "eventlog:erasures"
"""Where it is recorded what was erased."""

MAX_ROUNDS = 10
"""Two are usual: one that finds, one that finds no more."""

TEMPORARY_AGE_S = 600.0
"""A temporary file not written to for so long has no writer; one swept by mistake is written again."""

MODELS_AT_ONCE = 4
"""Each waits for the server most of the time of a short log, and for the processor of a long one."""

PAGE_ENTRIES = 1000

_log = get_logger("erasing")


class Progress(NamedTuple):
    """What is being done, and how far it is."""

    step: str
    """`sessions`, `log`, `archive`, `read models` or `server files`."""
    done_count: int
    total_count: int


class Report(NamedTuple):
    """What was erased, or would be."""

    erasures: tuple[str, ...]
    """Names in the ledger; none of a dry run."""
    event_count: int
    """Events that had content, wherever it was found."""
    entry_count: int
    """Of them in the log, each time it was rewritten."""
    row_count: int
    """Of them in the archive."""
    segment_count: int
    partition_count: int
    session_count: int
    """Sessions that are the person's."""
    record_count: int
    """Records of failed attempts that quoted them."""
    model_count: int
    """Read models made anew."""
    in_hand_count: int
    """Entries that groups have pending: a handler may write of one as it was. Erase again later."""
    unreadable_count: int
    """Entries that are no events, of which nobody can tell whose they are. They are left."""
    temporary_count: int
    """Unfinished files in the archive's folders; old ones are deleted."""
    files: ServerFiles
    is_complete: bool
    """Whether the last round found nothing any more."""


async def erase(
    log: EventLog,
    *,
    chat: str | None = None,
    user: str | None = None,
    platform: str | None = None,
    reason: str | None = None,
    operator: str | None = None,
    dry_run: bool = False,
    **how: Any,
) -> Report:
    """Return what was erased of a chat, or of a person on one platform or all, up to this call.

    Of a chat: every event of it. Of a person: every event that names them as sender, recipient or
    user, all events of sessions that were started for them, deliveries and dead letters of these.
    `how` is as for `Eraser`. Raises InvalidQuery, HistoryGap and ConfigurationError before anything is
    changed; LogUnavailable, Fenced and OSError, after which it is to be called again.

    >>> report = await erase(log, user="7", platform="telegram", reason="asked for on 3 May")
    """
    whose = Whose.of(chat=chat, user=user, platform=platform)
    eraser = Eraser(log, **how)
    if dry_run:
        return await eraser.survey(whose)
    return await eraser.erase(whose, reason=reason, operator=operator)


async def erase_again(
    log: EventLog, *, reason: str | None = None, operator: str | None = None, **how: Any
) -> Report:
    """Return what was erased once more of all that the ledger has: after a backup was restored.

    It also ends what was cut short. Raises as `erase`.
    """
    return await Eraser(log, **how).erase_again(reason=reason, operator=operator)


def ledger_of(log: EventLog) -> Ledger:
    """Return the ledger of the log's erasures, in its data directory."""
    return Ledger(log.settings.data_path / LEDGER_NAME, log.settings.key_prefix)


class Eraser:
    """Erases from a log, the archive of its settings, and its read models.

    `projections` are those of all programs of the log. `on_progress` is told how far it is; `reached`
    is called after each step, which a test may make the last.
    """

    def __init__(
        self,
        log: EventLog,
        *,
        storage: Storage | None = None,
        projections: Sequence[Projection] = DEFAULT_PROJECTIONS,
        on_progress: Callable[[Progress], None] = lambda _: None,
        reached: Callable[[str], None] = lambda _: None,
    ) -> None:
        if log.is_in_memory:
            raise ConfigurationError(
                "a log in memory has nothing to erase from.", remedy="It forgets when it is closed."
            )
        self._log = log
        self._storage = storage or DirectoryStorage(log.settings.archive_path, clock=log.clock)
        self._projections = projections
        self._past = ArchivedPast(self._storage)
        self._ledger = ledger_of(log)
        self._tell = on_progress
        self._reached = reached
        self._owner = new_owner()

    async def survey(self, whose: Whose) -> Report:
        """Return what erasing would change; nothing is written."""
        run = _Run(self._log, [Recorded(Scope.begin(whose, await self._now_ms()), False, 0)])
        await self._learn_sessions(run)
        partitions = self._in_order()
        for done, partition in enumerate(partitions):
            self._tell(Progress("log and archive", done, len(partitions)))
            await self._survey_segments(run, partition)
            rewriter = StreamRewriter(self._log, partition, self._lease(partition))
            run.entry_count += await rewriter.changes(run.change(partition))
        report = run.report(files=ServerFiles("none", "none"), is_complete=False)
        return report._replace(erasures=())

    async def erase(
        self, whose: Whose, *, reason: str | None = None, operator: str | None = None
    ) -> Report:
        """Return what was erased. What was asked for before is gone on with, under its old name."""
        await self._check()
        until_ms = await self._now_ms()
        known = await asyncio.to_thread(self._ledger.find, whose)
        if known is None:
            scope = Scope.begin(whose, until_ms, await asyncio.to_thread(self._ledger.salt))
            known = Recorded(scope, is_completed=False, begun_at=self._log.clock.now_us())
        scope = msgspec.structs.replace(known.scope, until_ms=until_ms)
        return await self._erase([known._replace(scope=scope)], reason, operator)

    async def _now_ms(self) -> int:
        """Return the time of the last entry, by the server's clock."""
        return max(head.ms for head in await self._log.heads())

    async def erase_again(
        self, *, reason: str | None = None, operator: str | None = None
    ) -> Report:
        """Return what was erased of all that the ledger has."""
        return await self._erase(await asyncio.to_thread(self._ledger.read), reason, operator)

    async def _erase(
        self, recorded: list[Recorded], reason: str | None, operator: str | None
    ) -> Report:
        run = _Run(self._log, recorded)
        await self._learn_sessions(run)
        self._reached("surveyed")
        if not all(each.is_completed for each in recorded):
            await self._begin(run)
        is_complete = await self._rounds(run)
        files = ServerFiles("none", "none")
        if run.begun_at:
            await self._check()
            await self._renew_models(run)
            self._tell(Progress("server files", 0, 1))
            files = await rewrite_files(self._log)
            self._reached("files_rewritten")
        for partition in self._in_order():
            is_erased = run.is_erased(partition)
            run.in_hand_count += await in_hand_count(self._log, partition, is_erased)
        run.temporary_count = await asyncio.to_thread(
            forget_temporary, self._storage, TEMPORARY_AGE_S
        )
        report = run.report(files=files, is_complete=is_complete)
        if run.begun_at and is_complete:
            await self._tell_the_log(run, report, reason, operator)
            self._reached("told")
            await self._record(run, "completed")
        return report

    async def _check(self) -> None:
        """Ensure that it can be done to the end. Raises HistoryGap, ConfigurationError."""
        await check_history(self._log, self._past)
        known = {projection.name for projection in self._projections}
        unknown = sorted(await stored_projections(self._log) - known)
        if unknown:
            raise ConfigurationError(
                f"read models of {', '.join(unknown)} are stored, which this program cannot make "
                "anew without what is erased.",
                remedy="Name them (`--projection MODULE:OBJECT`), or `eventlog projections retire` "
                "those that no program has any more.",
            )

    async def _begin(self, run: _Run) -> None:
        """Record that something is about to be changed, unless that is recorded."""
        if not run.begun_at:
            now_us = self._log.clock.now_us()
            run.begun_at = [now_us if each.is_completed else each.begun_at for each in run.recorded]
            await self._record(run, "begun")

    async def _record(self, run: _Run, state: State) -> None:
        times = run.begun_at
        if state == "completed":
            times = [self._log.clock.now_us()] * len(times)
        moments = list(zip(run.selection.scopes, times, strict=True))
        await asyncio.to_thread(self._ledger.write, state, moments)
        self._reached("recorded")

    async def _tell_the_log(
        self, run: _Run, report: Report, reason: str | None, operator: str | None
    ) -> None:
        """Record that it was done, once for each erasure. Whose content it was is not said."""
        now_us = self._log.clock.now_us()
        pairs = zip(run.recorded, run.begun_at, strict=True)
        events = [
            ErasureCompleted(
                conversation=ERASURES_CONVERSATION,
                id=f"erasure:{each.scope.erasure}:{begun_at}",
                occurred_at=now_us,
                erasure=each.scope.erasure,
                scope=each.scope.kind,
                entry_count=report.entry_count,
                row_count=report.row_count,
                segment_count=report.segment_count,
                partition_count=report.partition_count,
                is_repeat=each.is_completed,
                reason=reason,
                operator=operator,
            )
            for each, begun_at in pairs
        ]
        await self._log.append(events)

    # --- looking ---------------------------------------------------------------------------------

    def _in_order(self) -> list[int]:
        """Return the partitions; that of letters of unreadable entries, which stand anywhere, last."""
        last = self._log.partition_of(POISON_CONVERSATION)
        return [p for p in range(self._log.partition_count) if p != last] + [last]

    async def _learn_sessions(self, run: _Run) -> None:
        """Find the sessions of the people sought, wherever their start stands."""
        if not run.selection.seeks_people:
            return
        types = [str(SessionStarted.__struct_config__.tag)]
        for partition in self._in_order():
            self._tell(Progress("sessions", partition, self._log.partition_count))
            async for stretch in self._past.read(partition, START, types=types):
                for entry in stretch.entries:
                    run.redactor.learn(partition, entry)
            after = START
            while page := await self._log.read_raw(partition, after, PAGE_ENTRIES):
                for entry in page:
                    run.redactor.learn(partition, entry)
                after = page[-1].id

    async def _survey_segments(self, run: _Run, partition: int) -> None:
        for segment in await asyncio.to_thread(_segments, self._storage, partition):
            changes = await asyncio.to_thread(
                segment_changes,
                self._storage,
                segment,
                run.change(partition),
                run.redactor.concerns,
            )
            run.count_segment(sum(map(len, changes.values())))

    # --- changing --------------------------------------------------------------------------------

    async def _rounds(self, run: _Run) -> bool:
        """Rewrite until nothing is found; return whether it came to that."""
        partitions = self._in_order()
        for _ in range(MAX_ROUNDS):
            count, erased_count = 0, len(run.redactor.erased)
            for done, partition in enumerate(partitions):
                self._tell(Progress("log", done, len(partitions)))
                count += await self._rewrite_stream(run, partition)
            for done, partition in enumerate(partitions):
                self._tell(Progress("archive", done, len(partitions)))
                count += await self._rewrite_segments(run, partition)
            # Copies of what was found late, and what was said in a session that became known late,
            # may stand before it.
            is_all_known = erased_count == len(run.redactor.erased) and not run.learned
            if run.learned and run.begun_at:
                await self._record(run, "begun")
            run.learned = False
            if not count and is_all_known:
                return True
        _log.warning("erasure_incomplete", rounds=MAX_ROUNDS)
        return False

    def _lease(self, partition: int) -> ExclusiveLease:
        return ExclusiveLease(self._log, GROUP, partition, self._owner)

    async def _rewrite_stream(self, run: _Run, partition: int) -> int:
        """Return how many entries and records were changed of a partition's log."""
        lease = self._lease(partition)
        async with lease.hold():
            rewriter = StreamRewriter(self._log, partition, lease, self._reached)
            count = await rewriter.changes(run.change(partition))
            if count:
                await self._begin(run)
                await rewriter.rewrite(run.change(partition))
            else:
                await rewriter.discard()
        run.entry_count += count
        records = await blank_records(self._log, partition, run.is_erased(partition))
        run.record_count += records
        return count + records

    async def _rewrite_segments(self, run: _Run, partition: int) -> int:
        """Return how many rows were changed of a partition's archive."""
        publish = await write_planned(self._log, self._storage, partition)
        if await asyncio.to_thread(publish):
            self._reached("plan_written")
        total = 0
        for segment in await asyncio.to_thread(_segments, self._storage, partition):
            path = self._storage.path(segment)
            stamp = await asyncio.to_thread(_stamp, path)
            if run.clean.get(segment) == stamp:
                continue
            changes = await asyncio.to_thread(
                segment_changes,
                self._storage,
                segment,
                run.change(partition),
                run.redactor.concerns,
            )
            count = sum(map(len, changes.values()))
            if count:
                await self._begin(run)
                work = partial(rewrite_segment, self._storage, segment, changes, self._log.codec)
                await asyncio.to_thread(work)
                self._reached("segment_replaced")
                run.count_segment(count)
            else:
                run.clean[segment] = stamp
            total += count
        return total

    async def _renew_models(self, run: _Run) -> None:
        stored = await stored_projections(self._log)
        wanted = [each for each in self._projections if each.name in stored]
        room, done_count = asyncio.Semaphore(MODELS_AT_ONCE), 0

        async def renew_one(projection: Projection) -> None:
            nonlocal done_count
            async with room:
                self._tell(Progress("read models", done_count, len(wanted)))
                await renew(self._log, projection, past=self._past)
                self._reached("model_renewed")
                done_count += 1

        renewing = [asyncio.create_task(renew_one(projection)) for projection in wanted]
        try:
            await asyncio.gather(*renewing)
        finally:
            await end(*renewing)
        run.model_count = len(wanted)


class _Run:
    """One call's findings."""

    def __init__(self, log: EventLog, recorded: Sequence[Recorded]) -> None:
        self.recorded = recorded
        self.begun_at: list[int] = []
        """µs UTC, of each erasure; empty for as long as nothing is changed."""
        self.selection = Selection(each.scope for each in recorded)
        self.redactor = Redactor(log.codec, self.selection)
        self.clean: dict[Segment, tuple[int, int]] = {}
        """Segments in which nothing was found, as they were then."""
        self.learned = False
        self.entry_count = self.row_count = self.segment_count = self.record_count = 0
        self.model_count = self.in_hand_count = self.temporary_count = 0

    def change(self, partition: int) -> Callable[[RawEntry], bytes | None]:
        """Return what gives the JSON that is to stand in place of an entry's."""

        def changed(entry: RawEntry) -> bytes | None:
            if self.selection.seeks_people and self.redactor.learn(partition, entry):
                self.learned = True
                self.clean.clear()
            return self.redactor.redaction(partition, entry)

        return changed

    def is_erased(self, partition: int) -> Callable[[EntryId], bool]:
        """Return what says whether an entry is erased."""
        return lambda entry_id: (partition, entry_id.n) in self.redactor.erased

    def count_segment(self, row_count: int) -> None:
        """Take a segment that was rewritten, or would be."""
        self.row_count += row_count
        self.segment_count += row_count > 0

    def report(self, *, files: ServerFiles, is_complete: bool) -> Report:
        """Return the findings."""
        return Report(
            erasures=tuple(each.scope.erasure for each in self.recorded),
            event_count=len(self.redactor.changed),
            entry_count=self.entry_count,
            row_count=self.row_count,
            segment_count=self.segment_count,
            partition_count=len({partition for partition, _ in self.redactor.changed}),
            session_count=sum(len(scope.sessions) for scope in self.selection.scopes),
            record_count=self.record_count,
            model_count=self.model_count,
            in_hand_count=self.in_hand_count,
            unreadable_count=len(self.redactor.unreadable),
            temporary_count=self.temporary_count,
            files=files,
            is_complete=is_complete,
        )


def _segments(storage: Storage, partition: int) -> list[Segment]:
    """Return every file of a partition, in order; also those that nothing reads any more."""
    found = Catalogue(storage).scan().get(partition)
    return sorted({*found.chosen, *found.spare, *found.stranded}) if found else []


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_ino
