"""Eight workers over eight partitions, struck at random under load, lose and repeat nothing.

`python -m tests.fault.killed_workers [--seed N] [--seconds S] [--lease-ttl-ms MS]`.

Workers are processes. Every 0.3 to 1.5 s one of them is killed, paused for longer than its lease, or
told to end; who is struck, how and when comes from the seed. Meanwhile this process appends, and
remembers what was acknowledged. In the end the log, and every read model, must be what those events
alone say, in their order. Watched along the way is how long partitions wait for a new owner.
"""

# ruff: noqa: T201 - a report for whoever runs it

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from eventlog import EventLog, Settings
from eventlog.event import Event
from projections.folding.letters import GROUP
from projections.projecting.projector import Projector
from tests.fault.processes import StrikeKind
from tests.fault.takeovers import Takeover, Watch
from tests.fault.worker_fleet import Fleet, Plan
from tests.projecting import chats_of, oracle, random_events, read_out
from tests.support import RawServer, eventually

TAKEOVER_LIMIT_S = 5.0
"""What is promised at the default lease."""
EVENTS_PER_CHAT = 200
"""On average; few enough for read models that keep the last of something to keep everything."""
CATCH_UP_LIMIT_S = 60


def planned_events(plan: Plan) -> list[Event]:
    """Return what is to be appended, in order. Pure."""
    count = int(plan.seconds * plan.events_per_s)
    chat_count = max(50, count // EVENTS_PER_CHAT)
    return random_events(random.Random(f"events {plan.seed}"), count, chat_count)


async def generate(log: EventLog, plan: Plan, events: list[Event]) -> list[Event]:
    """Append at the plan's rate and for its time, in batches; return what was acknowledged."""
    rnd = random.Random(f"batches {plan.seed}")
    acknowledged: list[Event] = []
    started_s = time.monotonic()
    while (elapsed_s := time.monotonic() - started_s) < plan.seconds:
        ahead_s = len(acknowledged) / plan.events_per_s - elapsed_s
        await asyncio.sleep(max(0, ahead_s))
        size = rnd.randint(1, plan.events_per_s // 25)
        batch = events[len(acknowledged) : len(acknowledged) + size]
        results = await log.append(batch)
        assert not any(result.duplicate for result in results)
        acknowledged += batch
    return acknowledged


async def differences(log: EventLog, acknowledged: list[Event]) -> list[str]:
    """Return how the log and its read models differ from what was acknowledged."""
    order: dict[str, list[str]] = {}
    for event in acknowledged:
        order.setdefault(event.conversation, []).append(event.id)
    expected = {"log": order, **oracle(acknowledged, log.settings.chat_history_limit)}
    models = await read_out(log, chats_of(acknowledged), "stored", page_size=500)
    found = {"log": await logged(log), **models}
    return [
        f"{name}: {key}: {found[name].get(key)!r:.300} instead of {value.get(key)!r:.300}"
        for name, value in expected.items()
        for key in sorted(value.keys() | found[name].keys(), key=str)
        if found[name].get(key) != value.get(key)
    ] + [line async for line in unfinished(log)]


async def logged(log: EventLog) -> dict[str, list[str]]:
    """Return each conversation's event ids as the log has them; sequences must have no gap."""
    order: dict[str, list[str]] = {}
    for partition in range(log.partition_count):
        entries = await log.read(partition=partition, limit=1_000_000)
        assert [entry.sequence for entry in entries] == list(range(1, len(entries) + 1))
        for entry in entries:
            order.setdefault(entry.event.conversation, []).append(entry.event.id)
    return order


async def unfinished(log: EventLog) -> AsyncIterator[str]:
    """Yield what is left to do in a log that nobody works on any more; nothing should be."""
    for each in await Projector(log).status():
        if each.owner is not None:
            yield f"partition {each.partition}: {each.owner} never gave its lease back"
        unequal = [m for m in each.models if m.position != each.head or m.building_version]
        if unequal or each.lag_count:
            yield f"partition {each.partition}: {unequal}, the log at {each.head}"
        groups = await log.client.xinfo_groups(log.keys.stream(each.partition))
        (group,) = (group for group in groups if group["name"] == GROUP.encode())
        if group["pending"] or group["last-delivered-id"] != str(each.head).encode():
            yield f"partition {each.partition}: the group is at {group}, the log at {each.head}"


@dataclass
class Report:
    """What happened in a run."""

    plan: Plan
    event_count: int
    strikes: Counter[str]
    worker_count: int
    fenced_count: int
    """Workers that tried to go on under a lease that was another's by then, and were told."""
    longest_wait_ms: int
    takeovers: list[Takeover]
    differences: list[str] = field(repr=False)

    def takeover_times_s(self, *kinds: StrikeKind) -> list[float]:
        """Return how long takeovers took after such strikes."""
        return [each.took_s for each in self.takeovers if each.kind in kinds]

    def __str__(self) -> str:
        plan = self.plan
        lines = [
            f"seed {plan.seed}: {self.event_count:,} events in {plan.seconds:g} s, lease"
            f" {plan.lease_ttl_ms} ms, {self.worker_count} workers in turn",
            f"kills {self.strikes['kill']}, pauses {self.strikes['pause']}, releases"
            f" {self.strikes['release']}; fenced {self.fenced_count} times",
            *(self._about(kind) for kind in get_args(StrikeKind)),
            f"an entry waited {self.longest_wait_ms / 1000:.2f} s at most for the read models",
            *self.differences[:20],
            f"{len(self.differences)} differences" if self.differences else "no difference",
        ]
        return "\n".join(lines)

    def _about(self, kind: StrikeKind) -> str:
        return f"takeovers after a {kind}: {_spread(self.takeover_times_s(kind))}"


def _spread(times_s: list[float]) -> str:
    if not times_s:
        return "none"
    return (
        f"{len(times_s)}, median {statistics.median(times_s):.2f} s, longest {max(times_s):.2f} s"
    )


async def run(plan: Plan, folder: Path) -> Report:
    """Return the report of a run in an empty folder; nothing of it is left running."""
    events = planned_events(plan)
    with (
        RawServer(folder, appendonly="yes") as server,
        Fleet.at_work(server.url, folder, plan) as fleet,
    ):
        async with EventLog.open(server.url, settings=plan.settings) as log:
            watch = Watch(log, fleet)
            await eventually(watch.everyone_is_at_work, timeout_s=60)
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(watch.until_cancelled())
                generating = tasks.create_task(generate(log, plan, events))
                suffering = tasks.create_task(fleet.suffer())
                await asyncio.wait({generating, suffering})
                fleet.wake_all()
                await eventually(watch.all_is_level, CATCH_UP_LIMIT_S)
                watching.cancel()
            await fleet.release_all()
            acknowledged = generating.result()
            return Report(
                plan=plan,
                event_count=len(acknowledged),
                strikes=suffering.result(),
                worker_count=len(fleet.started),
                fenced_count=fleet.reported("lease_lost"),
                longest_wait_ms=watch.longest_wait_ms,
                takeovers=watch.takeovers,
                differences=await differences(log, acknowledged),
            )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fault.killed_workers", description=__doc__
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--lease-ttl-ms", type=int, default=Settings().lease_ttl_ms)
    options = parser.parse_args(arguments)
    plan = Plan(options.seed, options.seconds, lease_ttl_ms=options.lease_ttl_ms)
    with tempfile.TemporaryDirectory() as folder:
        report = asyncio.run(run(plan, Path(folder)))
    print(report)
    too_late = max(report.takeover_times_s(*get_args(StrikeKind)), default=0) > TAKEOVER_LIMIT_S
    return 1 if report.differences or too_late else 0


if __name__ == "__main__":
    sys.exit(main())
