"""Memory that stays bounded however much is said: bots at full speed, minute after minute.

`python -m tests.acceptance.bounded [--minutes M] [--budget-mb N]`. On a server of its own, `eventlog up`
works with a memory budget and a short memory, while bots (processes of their own) serve ever new chats
as fast as they can: each has a session that is started, talked in and ended, and is never seen again.
The server's memory is watched throughout. Afterwards the archive must hold every event that was
acknowledged, once, and the first chats and sessions must be answered as the last are.
"""

# ruff: noqa: T201 - a report for whoever runs it

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from redis.asyncio import Redis

from analytics.warehouse import Warehouse
from bridge import Bridge
from eventlog import EventLog, Settings
from eventlog.settings import environment_of
from service.wiring import open_archiver
from tests.support import RawServer

BOTS = 1
TASKS = 32
"""Chats that a bot serves at once."""
TURNS = 3
"""Of a chat: a message and an answer each."""
KEPT_CHATS = 50
"""The first of each bot, which are asked for again at the end."""

HOT_S = 5
DEDUP_S = 60
"""The shortest there is: event ids are remembered for up to twice as long."""
STREAM_SHARE = 4
"""A fourth of the budget is for the streams; the rest is event ids, versions and what is hot."""

COUNT_SQL = """
SELECT count(*) AS events, count(DISTINCT (partition, sequence)) AS places,
    count(DISTINCT session) FILTER (type = 'session.started') AS sessions,
    count(*) FILTER (type IN ('message.received', 'message.sent')) AS messages
FROM events
"""


class Served(NamedTuple):
    """What a bot was acknowledged."""

    chats: int
    messages: int
    first: list[tuple[str, str]]
    """Conversation and session of its first chats."""


def settings_for(folder: Path, url: str, budget_bytes: int) -> Settings:
    """Return the settings that everybody uses."""
    return Settings(
        url=url,
        data_dir=str(folder),
        partition_count=4,
        hot_s=HOT_S,
        dedup_window_s=DEDUP_S,
        retention_memory_bytes=budget_bytes // STREAM_SHARE,
    )


async def serve(settings: Settings, bot: int, seconds: float) -> Served:
    """Serve chats until the time is over."""
    ends_s = time.monotonic() + seconds
    chats = messages = 0
    first: list[tuple[str, str]] = []
    async with Bridge.open(settings=settings, projections=None) as bridge:

        async def one() -> None:
            nonlocal chats, messages
            while time.monotonic() < ends_s:
                chats += 1
                user = f"{bot}-{chats}"
                for turn in range(TURNS):
                    received = await bridge.receive("telegram", user, f"question {turn} of {user}")
                    assert received is not None
                    await bridge.sent(received.session, f"answer {turn} to {user}")
                    messages += 2
                await bridge.sessions.complete(received.session)
                if len(first) < KEPT_CHATS:
                    first.append((received.session.conversation, received.session.id))

        await asyncio.gather(*(one() for _ in range(TASKS)))
    return Served(chats, messages, first)


async def watch(url: str, peaks_bytes: list[int], ends: asyncio.Event) -> None:
    """Note the server's memory, twice a second."""
    async with Redis.from_url(url) as client:
        while not ends.is_set():
            peaks_bytes.append(int((await client.info("memory"))["used_memory"]))
            try:
                await asyncio.wait_for(ends.wait(), 0.5)
            except TimeoutError:
                continue


@asynccontextmanager
async def working(settings: Settings) -> AsyncIterator[None]:
    """Have `eventlog up` run."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "service", "up",
        env={**environment_of(settings), "PATH": "/usr/bin:/bin"},
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield
        assert process.returncode is None, "`eventlog up` has ended"
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        await process.wait()


async def bots(settings: Settings, seconds: float) -> list[Served]:
    """Return what the bots were acknowledged, each a process."""
    told = await asyncio.gather(*(bot_process(settings, n, seconds) for n in range(BOTS)))
    return [Served(*json.loads(out)) for out in told]


async def bot_process(settings: Settings, bot: int, seconds: float) -> bytes:
    """Return what a bot in a process of its own says at its end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.acceptance.bounded", "--bot", str(bot),
        "--seconds", str(seconds),
        env={**environment_of(settings), "PATH": "/usr/bin:/bin"},
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    return (await process.communicate())[0]


async def run(folder: Path, url: str, seconds: float, budget_bytes: int) -> list[str]:
    """Return what was not as it should be."""
    settings = settings_for(folder, url, budget_bytes)
    used_bytes: list[int] = []
    ends = asyncio.Event()
    async with working(settings):
        watching = asyncio.create_task(watch(url, used_bytes, ends))
        served = await bots(settings, seconds)
        ends.set()
        await watching
    wrong = []
    chats, messages = (sum(s.chats for s in served), sum(s.messages for s in served))
    third = len(used_bytes) // 3
    peaks_mb = [max(used_bytes[i * third : (i + 1) * third or None]) / 1e6 for i in range(3)]
    print(f"{chats:,} chats, {messages:,} messages, {messages / seconds:,.0f} messages a second")
    print(f"server's memory, peak of each third of the time: {peaks_mb} MB")
    if max(used_bytes) > budget_bytes:
        wrong.append(f"the server took {max(used_bytes) / 1e6:.0f} MB")
    async with EventLog.open(settings=settings) as log:
        in_log = [await log.client.xlen(log.keys.stream(p)) for p in range(log.partition_count)]
        heads = await log.heads()
        async with open_archiver(log) as archiver:
            await archiver.archive_until(heads)
    total = sum(head.n for head in heads)
    print(f"{total:,} events, of which {sum(in_log):,} were still in the log")
    async with Warehouse.open(None, settings.archive_path) as archive:
        [row] = (await archive.query(COUNT_SQL)).to_pylist()
    expected = {"events": total, "places": total, "sessions": chats, "messages": messages}
    if row != expected:
        wrong.append(f"the archive has {row}, not {expected}")
    wrong += await ask_again(settings, served)
    return wrong


async def ask_again(settings: Settings, served: list[Served]) -> list[str]:
    """Return which of the first chats and sessions are not answered as they were."""
    wrong = []
    async with Bridge.open(settings=settings, projections=None) as bridge:
        for conversation, session_id in [pair for each in served for pair in each.first]:
            session = await bridge.sessions.get(session_id)
            if session is None or session.status != "completed":
                wrong.append(f"session {session_id} is {session}")
            user = conversation.partition(":")[2]
            texts = [entry.event.text for entry in (await bridge.history(conversation)).entries]
            said = [
                f"{w} {n} {p} {user}"
                for n in range(TURNS)
                for w, p in (("question", "of"), ("answer", "to"))
            ]
            if texts != said:
                wrong.append(f"{conversation} has {texts}")
    return wrong


def main() -> int:
    """Run it; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--budget-mb", type=int, default=256)
    parser.add_argument("--bot", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.bot is not None:
        from eventlog.settings import load_settings

        print(json.dumps(asyncio.run(serve(load_settings(), chosen.bot, chosen.seconds))))
        return 0
    with tempfile.TemporaryDirectory() as folder, RawServer(Path(folder)) as server:
        run_of = run(Path(folder), server.url, 60 * chosen.minutes, chosen.budget_mb * 10**6)
        wrong = asyncio.run(run_of)
    print("\n".join(wrong) or "all as it should be")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
