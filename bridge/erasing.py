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
from typing import Any

import msgspec

from analytics.erasing import forget_temporary
from analytics.opening import storage_of
from analytics.past import ArchivedPast
from analytics.storage import Storage
from bridge.erasing_places import Places
from bridge.erasure_run import Progress, Report, Run
from consumers.erasing import in_hand_count
from eventlog.erasure_ledger import LEDGER_NAME, Ledger, Recorded, State
from eventlog.erasure_scope import Scope, Whose
from eventlog.errors import ConfigurationError
from eventlog.log import EventLog
from eventlog.server_files import ServerFiles, rewrite_files
from eventlog.tasks import end
from eventlog.vocabulary import ErasureCompleted
from projections.building.rebuilding import check_history
from projections.building.renewing import renew, stored_projections
from projections.builtin import DEFAULT_PROJECTIONS
from projections.projection import Projection

__all__ = [
    "ERASURES_CONVERSATION",
    "Eraser",
    "Progress",
    "Report",
    "erase",
    "erase_again",
    "ledger_of",
]

ERASURES_CONVERSATION = "eventlog:erasures"
"""Where it is recorded what was erased."""

TEMPORARY_AGE_S = 600.0
"""A temporary file not written to for so long has no writer; one swept by mistake is written again."""

MODELS_AT_ONCE = 4
"""Each waits for the server most of the time of a short log, and for the processor of a long one."""


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
    user or is of their private chat `PLATFORM:USER`, all events of sessions that were started for
    them, deliveries and dead letters of these.
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
        self._storage = storage or storage_of(log.settings, clock=log.clock)
        self._projections = projections
        self._past = ArchivedPast(self._storage)
        self._ledger = ledger_of(log)
        self._tell = on_progress
        self._reached = reached

    async def survey(self, whose: Whose) -> Report:
        """Return what erasing would change; nothing is written."""
        scope = Scope.begin(whose, await self._now_ms())
        run = Run(self._log, [Recorded(scope, is_completed=False, begun_at=0)])
        places = self._places(run)
        await places.learn_sessions()
        await places.survey()
        report = run.report(files=ServerFiles("none", "none"), is_complete=False)
        return report._replace(erasures=())

    def _places(self, run: Run) -> Places:
        begin = partial(self._begin, run)
        return Places(
            self._log, self._storage, run, begin=begin, tell=self._tell, reached=self._reached
        )

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
        run = Run(self._log, recorded)
        places = self._places(run)
        await places.learn_sessions()
        self._reached("surveyed")
        if not all(each.is_completed for each in recorded):
            await self._begin(run)
        is_complete = await places.rewrite()
        files = ServerFiles("none", "none")
        if run.begun_at:
            await self._check()
            await self._renew_models(run)
            self._tell(Progress("server files", 0, 1))
            files = await rewrite_files(self._log)
            self._reached("files_rewritten")
        for partition in places.partitions:
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

    async def _begin(self, run: Run) -> None:
        """Record that something is about to be changed, and whose, unless just that is recorded."""
        if not run.begun_at:
            now_us = self._log.clock.now_us()
            run.begun_at = [now_us if each.is_completed else each.begun_at for each in run.recorded]
        if run.selection.scopes != run.noted:
            run.noted = run.selection.scopes
            await self._record(run, "begun")

    async def _record(self, run: Run, state: State) -> None:
        times = run.begun_at
        if state == "completed":
            times = [self._log.clock.now_us()] * len(times)
        moments = list(zip(run.selection.scopes, times, strict=True))
        await asyncio.to_thread(self._ledger.write, state, moments)
        self._reached("recorded")

    async def _tell_the_log(
        self, run: Run, report: Report, reason: str | None, operator: str | None
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

    async def _renew_models(self, run: Run) -> None:
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
