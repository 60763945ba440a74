"""Whoever is told to stop while its server does not answer ends all the same, and soon."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from analytics import Archiver, Rolling, storage_of
from bridge import Bridge
from consumers import Worker, partition_work
from eventlog import EventLog, MessageReceived, Settings
from projections import Projector
from tests.support import RawServer, eventually

COMMAND_S = 0.2
"""What a call that is not answered costs: the server is stopped, and connecting to it succeeds."""
CALLS = 6
"""As many of them as a stop may wait for, one after the other: docs/reliability.md counts them."""
SLACK_S = 0.5
"""For a machine that has other things to do."""


async def work(log: EventLog, stop: asyncio.Event) -> None:
    worker = Worker(log, "greeter")

    @worker.on("*")
    async def greet(event: MessageReceived, context: object) -> None:
        """Nothing follows."""

    await worker.run(stop)


async def project(log: EventLog, stop: asyncio.Event) -> None:
    await Projector(log).run(stop)


async def archive(log: EventLog, stop: asyncio.Event) -> None:
    async with Archiver(log, storage_of(log.settings), rolling=Rolling(age_ms=10)) as archiver:
        await archiver.run(stop)


async def converse(log: EventLog, stop: asyncio.Event) -> None:
    async with Bridge.open(settings=log.settings) as bridge:
        await bridge.receive("web", "1", "hello")
        bridge.log_event("seen")
        await stop.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RawServer]:
    with RawServer(tmp_path) as running:
        yield running


@pytest.mark.parametrize("kind", [work, project, archive, converse])
async def test_it_ends_without_a_word_from_the_server(
    server: RawServer,
    tmp_path: Path,
    kind: Callable[[EventLog, asyncio.Event], Awaitable[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(partition_work, "HAND_OVER_S", COMMAND_S)
    settings = Settings(
        url=server.url,
        partition_count=2,
        archive_dir=str(tmp_path / "archive"),
        lease_ttl_ms=600,
        command_timeout_s=COMMAND_S,
        connect_timeout_s=COMMAND_S,
        max_retries=0,
    )
    stop = asyncio.Event()
    async with EventLog.open(settings=settings) as log:
        working = asyncio.ensure_future(kind(log, stop))
        await log.append(MessageReceived(conversation="web:2", text="hello"))
        await eventually(lambda: _has_leases(log))
        os.kill(server.pid, signal.SIGSTOP)
        begun_s = time.monotonic()
        stop.set()
        await working
    assert time.monotonic() - begun_s < CALLS * COMMAND_S + SLACK_S


async def _has_leases(log: EventLog) -> bool:
    return bool([key async for key in log.client.scan_iter("*lease*")])
