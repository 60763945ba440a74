"""A worker whose server goes away and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from consumers import Limits, Retry, Worker
from consumers.dead_letters import request_replay
from eventlog import EventLog, MessageSent
from eventlog.vocabulary import DeadLetterParked, DeadLetterResolved
from projections.views.dead_letters import DeadLetters
from tests.logs import conversation_in, message
from tests.support import RawServer, eventually
from tests.working import Seen, all_handled, at_work, events, nothing_is_left

ONCE = Retry(attempts=1)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RawServer]:
    """A server that forgets nothing when it is killed."""
    with RawServer(tmp_path, appendonly="yes", appendfsync="always") as started:
        yield started


@pytest.fixture
async def log(server: RawServer) -> AsyncIterator[EventLog]:
    async with EventLog.open(
        server.url, partition_count=4, lease_ttl_ms=400, max_retries=0
    ) as opened:
        yield opened


async def test_what_runs_meanwhile_is_settled_when_it_is_back(log, server):
    names = [f"chat:{n}" for n in range(20)]
    await log.append([message(name, n) for n in range(5) for name in names])
    seen, release, worker = Seen(), asyncio.Event(), Worker(log, "g")

    @worker.on("message.received", retry=ONCE)
    async def handle(event, context):
        seen.note(event, context)
        await release.wait()
        context.append(MessageSent(conversation=event.conversation, text=event.text))

    async with at_work(worker):
        await eventually(lambda: seen.count == 20)
        server.kill()
        release.set()
        await eventually(lambda: worker._faults)
        server.start()
        await all_handled(worker, 20)
    assert {name: seen.texts[name] for name in names} == {name: list("01234") for name in names}
    assert len(await events(log, MessageSent)) == 100
    await nothing_is_left(log, "g")


async def test_results_of_another_partition_wait_for_it_and_no_attempt_is_lost(log, server):
    here, there = conversation_in(log, 0), conversation_in(log, 1)
    await log.append(message(here, "x"))
    seen, worker = Seen(), Worker(log, "g")

    @worker.on("message.received", retry=ONCE)
    async def handle(event, context):
        seen.note(event, context)
        context.append(MessageSent(conversation=there, text="copy"))
        server.kill()

    async with at_work(worker):
        await eventually(lambda: worker._faults)
        server.start()
        await all_handled(worker, 20)
    assert seen.attempts == {"x": [1]}
    assert await events(log, DeadLetterParked) == []
    assert [each.conversation for each in await events(log, MessageSent)] == [there]


async def test_a_replay_waits_for_it(log, server):
    await log.append(message("c", "x"))
    worker = Worker(log, "g")

    @worker.on("message.received", retry=ONCE)
    async def handle(_event, context):
        if context.attempt == 1:
            raise ValueError
        if context.attempt == 2 and not killed:
            killed.append(True)
            server.kill()

    killed: list[bool] = []
    await worker.run_once()
    [letter] = await DeadLetters(log).unsettled("g", log.partition_of("c"), 0, 10)
    await request_replay(log, [letter])
    async with at_work(worker):
        await eventually(lambda: worker._faults)
        server.start()
        await all_handled(worker, 20)
    assert len(await events(log, DeadLetterResolved)) == 1


async def test_one_that_begins_while_it_is_away_waits_for_it(log, server):
    await log.append(message("c", "x"))
    seen, worker = Seen(), Worker(log, "g")
    worker.on("message.received")(seen)
    await worker.run_once()
    await log.append(message("c", "y"))
    server.kill()
    async with at_work(worker):
        await asyncio.sleep(0)
        server.start()
        await eventually(lambda: seen.count == 2)


async def test_stopping_while_it_is_away_comes_to_an_end(log, server, monkeypatch):
    monkeypatch.setattr("consumers.worker.HAND_OVER_S", 0.2)
    await log.append(message("c", "x"))
    seen, worker = Seen(), Worker(log, "g", limits=Limits(stop_timeout_s=0))
    worker.on("message.received")(seen)
    running = asyncio.create_task(worker.run())
    await eventually(lambda: seen.count == 1)
    await all_handled(worker)
    server.kill()
    await eventually(lambda: worker._faults)
    worker.stop()
    await asyncio.wait_for(running, 20)
