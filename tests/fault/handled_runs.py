"""Workers that are struck in every way under load, and what is recorded of it judged afterwards.

`python -m tests.fault.handled_runs [--seed N] [--seconds S] [--faults KIND…]` prints what happened and
what is wrong; a failing run's seed replays its load and its strikes.

Producers append entries whose handlers answer, fail, hang or give up, as each entry says. Four worker
processes handle them; half of the workers and a producer reach the server over a faulty proxy. Who is
struck, how and when, and what the proxy does, comes from the seed. Then everything is let to come to
rest.
"""

# ruff: noqa: T201 - a report for whoever runs it

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from consumers import GroupStatus
from consumers.group_status import group_status
from eventlog import EventLog
from eventlog.entry import Entry
from eventlog.errors import LogUnavailable
from eventlog.vocabulary import DeadLetterParked
from tests.fault.anomaly import Anomaly
from tests.fault.handling_anomalies import anomalies
from tests.fault.handling_fleet import FAULTS, Fault, Fleet, Plan, produce, strikes
from tests.fault.handling_history import History, Journal, Logged, Sent, Span
from tests.fault.handling_process import GROUP, TYPES, WorkAnswered, WorkEchoed, WorkGiven
from tests.proxy import ALL_FAULTS, FaultyProxy
from tests.support import RawServer, eventually

REST_LIMIT_S = 60

TOLD = 6
"""Anomalies of a name that are shown."""


@dataclass
class Report:
    """What happened in a run."""

    plan: Plan
    history: History
    strikes: Counter[str]
    link_faults: Counter[str]
    anomalies: list[Anomaly]

    @property
    def command(self) -> str:
        """What replays the run."""
        plan = self.plan
        return (
            f"python -m tests.fault.handled_runs --seed {plan.seed} --seconds {plan.seconds:g}"
            f" --gaps {plan.shortest_gap_s:g} {plan.longest_gap_s:g} --backlog {plan.backlog}"
            f" --faults {' '.join(plan.faults)}"
        )

    def __str__(self) -> str:
        history = self.history
        attempts = [a for journal in history.journals for a in journal.attempts]
        ends = Counter(str(each.end) for each in attempts)
        kinds = Counter(each.kind for each in history.log)
        doubtful = sum(not each.is_acknowledged for each in history.sent)
        died = sum(each.reason == "worker_died" for each in history.log)
        lines = [
            self.command,
            f"{len(history.sent):,} sent, {doubtful} of them indeterminate; in the log {dict(kinds)}",
            f"{len(history.journals)} workers in turn made {len(attempts):,} attempts: {dict(ends)};"
            f" {died} parked because their workers died",
            f"strikes {dict(self.strikes)}; link faults {dict(self.link_faults)}",
            *self._told(),
            f"{len(self.anomalies)} anomalies" if self.anomalies else "no anomaly",
        ]
        return "\n".join(lines)

    def _told(self) -> Iterator[str]:
        """Yield the first anomalies of each name, and how many there are."""
        for name, count in Counter(each.name for each in self.anomalies).items():
            few = [each for each in self.anomalies if each.name == name][:TOLD]
            yield from map(str, few)
            if count > TOLD:
                yield f"{name}: {count} in all"


async def run(plan: Plan, folder: Path) -> Report:
    """Return the report of a run in an empty folder; nothing of it is left running."""
    async with AsyncExitStack() as stack:
        server = stack.enter_context(RawServer(folder, appendonly="yes", appendfsync="always"))
        link = await stack.enter_async_context(
            FaultyProxy(
                str(folder / "raw.sock"),
                seed=plan.seed,
                fault_rate=plan.link_fault_rate,
                faults=ALL_FAULTS,
                late_s=plan.settings.command_timeout_s,
            )
        )
        log = await stack.enter_async_context(
            EventLog.open(server.url, settings=plan.settings, types=TYPES)
        )
        fleet = stack.enter_context(Fleet.at_work(server, link, folder, plan))
        await eventually(lambda: _everyone_is_at_work(log, fleet), timeout_s=60)
        link.is_armed = "link" in plan.faults
        suffering = asyncio.create_task(fleet.suffer())
        sent = await produce(plan, server.url, link.url)
        counts = await suffering
        link.is_armed = False
        fleet.wake_all()
        leftovers = await _come_to_rest(log, fleet, link)
        leftovers += fleet.crashes() or await fleet.release_all()
        history = await recorded(log, sent, fleet.journals(), fleet.outages, leftovers)
        return Report(plan, history, counts, link.faults, anomalies(history))


async def _everyone_is_at_work(log: EventLog, fleet: Fleet) -> bool:
    status = await group_status(log, GROUP)
    return {each.owner for each in status.partitions} == set(fleet.at_work_now())


async def _come_to_rest(log: EventLog, fleet: Fleet, link: FaultyProxy) -> list[str]:
    """Return when all is done with, or what is not when the time is up."""

    async def is_at_rest() -> bool:
        with suppress(LogUnavailable):  # of a connection that a restart has cut
            status = await group_status(log, GROUP)
            is_done = not (status.lag_count or status.blocked_count)
            return (is_done and link.is_empty) or bool(fleet.crashes())
        return False

    try:
        await eventually(is_at_rest, REST_LIMIT_S)
    except AssertionError:
        return [*_left(await group_status(log, GROUP))]
    return []


def _left(status: GroupStatus) -> Sequence[str]:
    return [f"not at rest: {each}" for each in status.partitions if each.lag_count]


async def recorded(
    log: EventLog,
    sent: Sequence[Sent],
    journals: Sequence[Journal],
    outages: Sequence[Span],
    leftovers: Sequence[str],
) -> History:
    """Return all that is known of a run that has come to rest."""
    logged: list[Logged] = []
    unsettled: set[str] = set()
    leftovers = list(leftovers)
    for partition in range(log.partition_count):
        entries = await log.read(partition=partition, limit=1_000_000)
        if [entry.sequence for entry in entries] != list(range(1, len(entries) + 1)):
            leftovers.append(f"partition {partition} has gaps in its sequences")
        keys = {f"{partition}/{entry.id}": entry.event.id for entry in entries}
        logged += [each for entry in entries if (each := _logged(entry, keys)) is not None]
        pending = await log.client.xpending_range(
            log.keys.stream(partition), GROUP, "-", "+", 1_000_000
        )
        places = [f"{partition}/{each['message_id'].decode()}" for each in pending]
        unsettled |= {keys.get(place, place) for place in places}
        leftovers += await _kept(log, partition)
    return History(sent, logged, journals, outages, unsettled, leftovers)


async def _kept(log: EventLog, partition: int) -> list[str]:
    """Return what the server still keeps about single entries, in words."""
    kept = await log.client.hgetall(log.keys.attempts(partition, GROUP))
    lines = await log.client.zrange(log.keys.blocked(partition, GROUP), 0, -1)
    pattern = log.keys.line(partition, GROUP, "*")
    keys = [key async for key in log.client.scan_iter(match=pattern)]
    return [
        *(f"partition {partition} keeps a record: {id_!r} {text!r}" for id_, text in kept.items()),
        *(f"partition {partition} keeps a blocked conversation: {name!r}" for name in lines),
        *(f"partition {partition} keeps a line: {key!r}" for key in keys),
    ]


def _logged(entry: Entry, keys: dict[str, str]) -> Logged | None:
    """Return what an entry of the log is; `keys` are the event ids by place."""
    event, place = entry.event, (entry.partition, entry.sequence, entry.id.ms)
    match event:
        case WorkGiven():
            return Logged("entry", event.id, event.conversation, *place)
        case WorkAnswered():
            return Logged("result", event.answers, event.conversation, *place, event.number)
        case WorkEchoed():
            return Logged("echo", event.echoes, event.conversation, *place, event.number)
        case DeadLetterParked():
            key = keys.get(event.origin or "", event.letter)
            return Logged("letter", key, event.conversation, *place, reason=event.reason)
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fault.handled_runs", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--faults", nargs="*", choices=FAULTS, default=FAULTS)
    shortest_s, longest_s = Plan(0).shortest_gap_s, Plan(0).longest_gap_s
    parser.add_argument("--gaps", nargs=2, type=float, default=[shortest_s, longest_s])
    parser.add_argument("--backlog", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="an empty folder for what is written")
    options = parser.parse_args(arguments)
    faults: tuple[Fault, ...] = tuple(options.faults)
    plan = Plan(
        options.seed,
        options.seconds,
        faults,
        shortest_gap_s=options.gaps[0],
        longest_gap_s=options.gaps[1],
        backlog=options.backlog,
    )
    with tempfile.TemporaryDirectory() as folder:
        report = asyncio.run(run(plan, options.keep or Path(folder)))
    print(f"planned: {[f'{s.at_s:.1f} {s.kind}' for s in strikes(plan)]}")
    print(report)
    return 1 if report.anomalies else 0


if __name__ == "__main__":
    sys.exit(main())
