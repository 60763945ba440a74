"""What a log costs on one server, behind Sentinel and on a cluster, and how long a failover takes.

    uv run python -m tests.fault.topologies [--rounds 3] [--events 20000]

Rates alternate over the rounds; what counts is their ratio to one server's. All servers share this
machine, so a cluster shows what it costs, not what it gains.
"""

# ruff: noqa: T201 - a report for whoever runs it

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path
from statistics import median

from eventlog.errors import LogUnavailable
from eventlog.log import EventLog
from eventlog.tasks import end
from eventlog.vocabulary import MessageReceived
from projections import Projector
from tests.clusters import NODE_TIMEOUT_MS, Cluster, SentinelSet
from tests.support import RawServer, eventually

PARTITIONS = 8
TASKS = 1000
CHATS = 500

Rates = dict[str, dict[str, list[float]]]
"""Work → topology → events a second, one per round."""


async def main(rounds: int, event_count: int) -> None:
    """Print rates and failovers."""
    with (
        tempfile.TemporaryDirectory() as name,
        RawServer(_made(name, "one"), tcp=True, appendonly="yes") as one,
        SentinelSet(Path(name) / "sentinel") as sentinels,
        Cluster(Path(name) / "cluster") as cluster,
    ):
        urls = {"one server": one.url, "Sentinel": sentinels.url, "cluster": cluster.url}
        _print(await _rates(urls, rounds, event_count))
        print(f"\nafter kill -9 of a primary (a node counts as failed after {NODE_TIMEOUT_MS} ms):")

        def primary_behind(log: EventLog) -> RawServer:
            return cluster.primary_of(log.keys.stream(log.partition_of("chat:0")))

        for topology, find in (
            ("Sentinel", lambda _: sentinels.primary),
            ("cluster", primary_behind),
        ):
            away_s = await _failover_s(urls[topology], find)
            print(f"{topology:<12} no append was acknowledged for {away_s:.1f} s")


def _made(parent: str, name: str) -> Path:
    folder = Path(parent) / name
    folder.mkdir()
    return folder


async def _rates(urls: dict[str, str], rounds: int, count: int) -> Rates:
    rates: Rates = {}
    async with AsyncExitStack() as stack:
        logs = {
            topology: await stack.enter_async_context(
                EventLog.open(url, key_prefix="rates", partition_count=PARTITIONS)
            )
            for topology, url in urls.items()
        }
        works: dict[str, Callable[[EventLog, int], Awaitable[int]]] = {
            "append, batches": lambda log, number: _in_batches(log, number, count),
            f"append, {TASKS:,} tasks": _by_tasks,
            "append, one by one": _one_by_one,
            "project": lambda log, _: _project(log),
        }
        for number in range(rounds):
            for work, run in works.items():
                for topology, log in logs.items():
                    begun_s = time.perf_counter()
                    done = await run(log, number)
                    rate = done / (time.perf_counter() - begun_s)
                    rates.setdefault(work, {}).setdefault(topology, []).append(rate)
    return rates


def _message(name: str, number: int) -> MessageReceived:
    return MessageReceived(
        id=f"{name}-{number}",
        conversation=f"chat:{number % CHATS}",
        text="a text of some length " * 4,
    )


async def _in_batches(log: EventLog, number: int, count: int) -> int:
    await log.append([_message(f"batch{number}", n) for n in range(count)])
    return count


async def _by_tasks(log: EventLog, number: int) -> int:
    async def several(task: int) -> None:
        for n in range(5):
            await log.append(_message(f"task{number}-{n}", task))

    await asyncio.gather(*(several(task) for task in range(TASKS)))
    return 5 * TASKS


async def _one_by_one(log: EventLog, number: int) -> int:
    for n in range(1000):
        await log.append(_message(f"one{number}", n))
    return 1000


async def _project(log: EventLog) -> int:
    lag_count = sum(each.lag_count for each in await Projector(log).status())
    await Projector(log).run_until_caught_up()
    return lag_count


async def _failover_s(url: str, find: Callable[[EventLog], RawServer]) -> float:
    """Return how long no append to a partition of the killed primary was acknowledged."""
    async with EventLog.open(
        url, key_prefix="failover", partition_count=PARTITIONS, command_timeout_s=0.5
    ) as log:
        answered_s: list[float] = []

        async def append() -> None:
            number = 0
            while True:
                try:
                    await log.append(MessageReceived(conversation="chat:0", text=str(number)))
                except LogUnavailable:
                    continue
                answered_s.append(time.monotonic())
                number += 1

        appending = asyncio.create_task(append())
        await eventually(lambda: len(answered_s) >= 100)
        find(log).kill()
        killed_s = time.monotonic()
        await eventually(lambda: answered_s[-1] > killed_s + 1, timeout_s=60)
        await end(appending)
        return max(later - earlier for earlier, later in pairwise(answered_s))


def _print(rates: Rates) -> None:
    for work, by_topology in rates.items():
        base = by_topology["one server"]
        shown = [f"{work:<20} one server {median(base):>9,.0f}/s"]
        for topology, found in by_topology.items():
            if topology != "one server":
                ratios = [mine / theirs for mine, theirs in zip(found, base, strict=True)]
                shown.append(
                    f"{topology} {median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
                )
        print("   ".join(shown))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--events", type=int, default=20_000)
    chosen = parser.parse_args()
    asyncio.run(main(chosen.rounds, chosen.events))
