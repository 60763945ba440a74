"""A run: everything at work, every fault, then rest, and what is wrong with what was recorded."""

from __future__ import annotations

import asyncio
import itertools
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eventlog import EventLog
from eventlog.errors import EventLogError
from eventlog.tasks import end
from tests.fault.anomaly import Anomaly
from tests.fault.journal import JournalFile
from tests.fault.whole import disk
from tests.fault.whole.anomalies import Totals, anomalies
from tests.fault.whole.history import History
from tests.fault.whole.judging import history_of, unequal_models
from tests.fault.whole.plan import FAULTS, Fault, Plan
from tests.fault.whole.watching import Watch
from tests.fault.whole.world import World
from tests.proxy import FaultyProxy
from tests.support import RawServer, eventually

REST_LIMIT_S = 60
TOLD = 5
"""Anomalies of a name that are shown."""


@dataclass
class Report:
    """What happened in a run."""

    plan: Plan
    folder: Path
    faults: Mapping[Fault, int]
    link_faults: Mapping[str, int]
    history: History
    anomalies: list[Anomaly]

    @property
    def command(self) -> str:
        """What replays the run."""
        plan = self.plan
        words = [f"python -m tests.fault --seed {plan.seed} --minutes {plan.seconds / 60:g}"]
        if set(plan.faults) != set(FAULTS):
            words += [f"--fault {fault}" for fault in plan.faults]
        words += [f"--broken {shlex.quote(name)}" for name in plan.broken]
        return " ".join(words)

    def __str__(self) -> str:
        history, totals = self.history, Totals.of(self.history)
        kinds = Counter(each.kind for each in history.log)
        taken = Counter(attempt.is_taken for attempt in history.attempts)
        lines = [
            self.command,
            f"faults {_counts(self.faults)}",
            f"on the way {_counts(self.link_faults)}",
            f"writes: {totals.acknowledged:,} acknowledged, {totals.indeterminate:,} indeterminate,"
            f" {totals.refused:,} refused; appends failed by {_counts(history.errors)}",
            f"in the log: {_counts(kinds)}; trimmed {self._trimmed_count():,} of"
            f" {sum(history.heads.values()):,}",
            f"files of the archive: {_counts(history.files)}",
            f"deliveries: {taken[True]:,} taken by the platform, {taken[False]:,} refused;"
            f" {len(history.sights):,} entries given to the watching group",
            *self._told(),
            f"{len(self.anomalies)} anomalies, kept in {self.folder}"
            if self.anomalies
            else "no anomaly",
        ]
        return "\n".join(lines)

    def _trimmed_count(self) -> int:
        begins = {each.of: each.n for each in self.history.positions if "begin" in each.of}
        return sum(n - 1 for n in begins.values() if n > 0)

    def _told(self) -> Iterator[str]:
        by_name = sorted(self.anomalies, key=lambda each: each.name)
        for name, group in itertools.groupby(by_name, key=lambda each: each.name):
            found = list(group)
            yield from map(str, found[:TOLD])
            if len(found) > TOLD:
                yield f"{name}: {len(found)} in all"


def _counts(counts: Mapping[Any, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items())) or "none"


async def run(plan: Plan, folder: Path, tell: Callable[[str], None] = lambda _: None) -> Report:
    """Return the report of a run in an empty folder; nothing of it is left running.

    `tell` is told how far it is.
    """
    if {"disk-archive", "disk-server"} & set(plan.faults):
        disk.require_limits()
    async with AsyncExitStack() as stack:
        server = stack.enter_context(RawServer(folder, appendonly="yes", appendfsync="always"))
        link = await stack.enter_async_context(
            FaultyProxy(
                str(folder / "raw.sock"),
                seed=plan.seed,
                fault_rate=plan.link_fault_rate,
                late_s=plan.settings.command_timeout_s,
            )
        )
        world = World(plan, folder, server, link)
        log = await stack.enter_async_context(EventLog.open(server.url, settings=world.settings))
        watch = Watch(log, JournalFile(folder / "watch.jsonl"), compacts="compactor" in plan.roles)
        stack.enter_context(world.at_work())
        watching = asyncio.create_task(watch.until_cancelled())
        try:
            await eventually(lambda: _has_begun(log), timeout_s=60)
            await world.suffer(tell)
        finally:
            await end(watching)
        world.calm()
        tell("at rest, then judged")
        found = [*await _come_to_rest(watch, world), *await _crashes(world)]
        history = await history_of(log, folder)
        found += [*anomalies(history), *await unequal_models(log)]
        return Report(plan, folder, world.counts, link.faults, history, found)


async def _has_begun(log: EventLog) -> bool:
    """Return whether there is something in every partition."""
    with suppress(EventLogError):
        return all(head.n for head in await log.heads())
    return False


async def _come_to_rest(watch: Watch, world: World) -> list[Anomaly]:
    """Return when all is done with; what is not when the time is up."""
    try:
        await eventually(lambda: _rests(watch, world), timeout_s=REST_LIMIT_S)
    except AssertionError:
        return [
            Anomaly("unfinished", f"not at rest after {REST_LIMIT_S} s", tuple(await watch.left()))
        ]
    return []


async def _rests(watch: Watch, world: World) -> bool:
    return bool(world.crashes()) or (world.link.is_empty and await watch.is_at_rest())


async def _crashes(world: World) -> list[Anomaly]:
    said = world.crashes() or await world.release_all()
    return (
        [Anomaly("crash", "a process ended by itself, or did not end", tuple(said))] if said else []
    )
