"""The server goes away and comes back, and processes die while they spool and while they drain."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from eventlog import EventLog
from eventlog.keys import Keys
from tests.fault.spooling_process import CHATS, settings
from tests.logs import assert_gapless, message
from tests.support import RawServer, eventually

Told = dict[tuple[str, str], list[int]]
"""Chat and run → the numbers in log order."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RawServer]:
    # With `everysec` the server may hold a write back while it syncs, and a kill then takes it.
    with RawServer(tmp_path, appendonly="yes", appendfsync="always") as running:
        yield running


@pytest.mark.parametrize("seed", range(3))
async def test_the_server_stops_while_tasks_append(server: RawServer, tmp_path: Path, seed: int):
    rnd = random.Random(seed)
    stops = 3
    is_over = False
    acknowledged: defaultdict[str, list[str]] = defaultdict(list)
    spooled = 0
    async with EventLog.open(settings=settings(server.url, str(tmp_path / "spool"))) as log:

        async def bot(name: str) -> None:
            nonlocal spooled
            while not is_over:
                count = rnd.choice([1, 1, 2, 7])
                first = len(acknowledged[name])
                events = [message(name, first + n) for n in range(count)]
                results = await log.append(events)
                spooled += sum(result.is_spooled for result in results)
                acknowledged[name] += [event.id for event in events]
                if rnd.random() < 0.1:
                    await log.append(events[-1])  # as a platform does that delivers twice

        async def grown(count: int) -> None:
            goal = sum(map(len, acknowledged.values())) + count
            await eventually(lambda: sum(map(len, acknowledged.values())) >= goal)

        async def stop_and_start() -> None:
            nonlocal is_over
            for _ in range(stops):
                await grown(rnd.randrange(1, 60))
                rnd.choice([server.kill, server.stop])()
                await grown(rnd.randrange(1, 60))
                await asyncio.to_thread(server.start)
            is_over = True

        names = [f"bot:{n}" for n in range(6)]
        await asyncio.wait_for(asyncio.gather(stop_and_start(), *map(bot, names)), 40)
    assert spooled, "otherwise nothing was shown"

    async with EventLog.open(settings=settings(server.url, str(tmp_path / "spool"))) as log:
        assert await assert_gapless(log) == sum(map(len, acknowledged.values()))
        for name in names:
            entries = await log.read(conversation=name, limit=100_000)
            assert [entry.event.id for entry in entries] == acknowledged[name]
    assert list((tmp_path / "spool").iterdir()) == []


class Run:
    """A process that appends, and what it was acknowledged."""

    def __init__(self, server: RawServer, spool_dir: Path, name: str) -> None:
        self.name = name
        self.acknowledged: dict[str, int] = {}
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.fault.spooling_process",
                server.url,
                str(spool_dir),
                name,
            ],
            stdout=subprocess.PIPE,
            text=True,
        )

    def hear(self, line_count: int) -> None:
        """Return when it has said so many lines more."""
        assert self._process.stdout is not None
        for _ in range(line_count):
            self._heard(self._process.stdout.readline())

    def _heard(self, line: str) -> None:
        assert line, "it ended"
        chat, _, number = line.strip().partition(" ")
        if number:
            self.acknowledged[chat] = int(number)

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        assert self._process.stdout is not None
        for line in self._process.stdout.readlines():
            if line.endswith("\n"):
                self._heard(line)
        self._process.stdout.close()
        assert self._process.wait(20) == -signal.SIGKILL


def entry_count(client: redis.Redis) -> int:
    return sum(int(client.xlen(Keys("eventlog").stream(partition))) for partition in range(3))


async def read_told(server: RawServer, spool_dir: Path) -> Told:
    told: Told = defaultdict(list)
    async with EventLog.open(settings=settings(server.url, str(spool_dir))) as log:
        await assert_gapless(log)
        for chat in CHATS:
            for entry in await log.read(conversation=chat, limit=1_000_000):
                run, _, number = entry.event.id.rpartition(f":{chat}:")
                told[chat, run].append(int(number))
    return told


@pytest.mark.parametrize("seed", range(2))
def test_processes_die_while_they_spool_and_while_they_drain(
    server: RawServer, tmp_path: Path, seed: int
):
    rnd = random.Random(seed)
    spool_dir = tmp_path / "spool"
    runs = [Run(server, spool_dir, "before")]
    runs[0].hear(1 + rnd.randrange(1, 20))
    server.kill()
    runs[0].hear(rnd.randrange(60, 100))
    runs[0].kill()  # while it spools what it began on the server
    runs.append(Run(server, spool_dir, "while away"))
    runs[1].hear(1 + rnd.randrange(40, 80))
    runs[1].kill()  # while it spools without ever having reached the server
    server.start()
    with redis.Redis.from_url(server.url) as client:
        for name in ("first drainer", "second drainer"):
            goal = entry_count(client) + rnd.randrange(100, 1200)
            runs.append(Run(server, spool_dir, name))
            while entry_count(client) < goal:
                time.sleep(0)
            runs[-1].kill()  # while it drains what the others left
    told = asyncio.run(read_told(server, spool_dir))
    for run in runs:
        for chat in CHATS:
            numbers = told[chat, run.name]
            assert numbers == list(range(len(numbers))), (seed, run.name, chat)
            assert len(numbers) > run.acknowledged.get(chat, -1), (seed, run.name, chat)
    assert [path.suffix for path in spool_dir.iterdir()] in ([], [".new"])


def test_what_was_spooled_by_a_process_comes_before_what_its_successor_appends(
    server: RawServer, tmp_path: Path
):
    spool_dir = tmp_path / "spool"
    server.stop()
    run = Run(server, spool_dir, "first")
    run.hear(60)
    run.kill()
    server.start()
    successor = Run(server, spool_dir, "second")
    successor.hear(5)
    successor.kill()

    async def order(chat: str) -> list[str]:
        async with EventLog.open(settings=settings(server.url, str(spool_dir))) as log:
            entries = await log.read(conversation=chat, limit=1_000_000)
        return [entry.event.id.split(":")[0] for entry in entries]

    for chat in CHATS:
        runs = asyncio.run(order(chat))
        assert runs == sorted(runs)
