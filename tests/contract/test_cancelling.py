"""Calls cancelled at any moment: what became of them is known, or they may be made again.

A moment is a number of turns of the event loop; the server answers somewhere among them.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
from pathlib import Path

import pytest

from eventlog import EventLog
from eventlog.embedded import EmbeddedServer
from eventlog.settings import Settings
from tests.logs import all_texts, assert_gapless, message, messages
from tests.support import RawServer, eventually, turns

MOMENTS = range(40)
_numbers = itertools.count(1)


async def cancelled_after(turn_count: int, task: asyncio.Task[object]) -> bool:
    """Return whether the cancellation came in time."""
    await turns(turn_count)
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
    return task.cancelled()


async def test_an_append_may_be_made_again(log: EventLog):
    outcomes = set()
    moments = [*MOMENTS, 400, 4000]  # the server may take longer than those
    for moment in moments:
        for events in ([message("c", moment)], messages(f"list:{moment}", 30)):
            task = asyncio.create_task(log.append(events))
            outcomes.add(await cancelled_after(moment, task))
            for event, result in zip(events, await log.append(events), strict=True):
                [entry] = await log.read_raw(result.partition, _before(result.id), 1)
                assert event.id.encode() in entry.raw
    assert outcomes == {True, False}, "some came in time and some did not"
    assert await all_texts(log, "c") == [str(n) for n in moments]
    assert await assert_gapless(log) == 31 * len(moments)


def _before(entry_id: tuple[int, int]) -> object:
    return type(entry_id)(entry_id[0], entry_id[1] - 1)


@pytest.mark.parametrize("seed", range(3))
async def test_one_cancelled_append_leaves_the_others_alone(log: EventLog, seed: int):
    rnd = random.Random(seed)
    events = [message(f"chat:{n % 5}", n) for n in range(200)]
    tasks = []
    for event in events:
        tasks.append(asyncio.create_task(log.append(event)))
        if rnd.random() < 0.3:
            await turns(rnd.randrange(6))
            rnd.choice(tasks).cancel()
    await asyncio.wait(tasks)
    kept = {event.id for event, task in zip(events, tasks, strict=True) if not task.cancelled()}
    entries = [e for p in range(4) for e in await log.read(partition=p, limit=1000)]
    there = [entry.event.id for entry in entries]
    assert len(there) == len(set(there))
    assert kept <= set(there)
    await log.append(events)
    assert await assert_gapless(log) == len(events)


async def test_a_read_leaves_no_reply_behind_for_the_next(log: EventLog):
    for chat in "ab":
        await log.append([message(chat, f"{chat}{n}") for n in range(20)])
    wanted = {chat: [f"{chat}{n}" for n in range(20)] for chat in "ab"}
    for moment in MOMENTS:
        await cancelled_after(moment, asyncio.create_task(log.read(conversation="a", limit=20)))
        await cancelled_after(moment, asyncio.create_task(log.heads()))
        assert await all_texts(log, "b") == wanted["b"]
    readers = [asyncio.create_task(all_texts(log, "ab"[n % 2])) for n in range(40)]
    for n in (3, 8, 20, 33):
        await turns()
        readers[n].cancel()
    for n, texts in enumerate(await asyncio.gather(*readers, return_exceptions=True)):
        assert texts == wanted["ab"[n % 2]] or n in (3, 8, 20, 33)


async def test_a_tail_misses_and_repeats_nothing(log: EventLog):
    tail = await log.tail("start")
    found: list[str] = []
    for number in MOMENTS:
        waiting = asyncio.create_task(anext(tail))
        await turns(number % 7)
        await log.append(message("c", number))
        await turns(number)
        waiting.cancel()
        await asyncio.wait([waiting])
        if not waiting.cancelled():
            found.append(waiting.result().event.text)  # type: ignore[attr-defined]
    while len(found) < len(MOMENTS):
        found.append((await asyncio.wait_for(anext(tail), 5)).event.text)  # type: ignore[attr-defined]
    assert found == [str(n) for n in MOMENTS]


async def test_an_opening_leaves_nothing_open(server_url: str):
    prefix = f"cancel{next(_numbers)}"
    outcomes = set()
    for moment in MOMENTS:
        log = EventLog.open(server_url, key_prefix=prefix, partition_count=2)
        outcomes.add(await cancelled_after(moment, asyncio.create_task(log.__aenter__())))
        async with log:  # which says that it is open, where it is
            assert (await log.append(message("c", moment))).sequence == moment + 1
        gc.collect()  # an unclosed connection would warn here, and warnings are errors
    assert True in outcomes


async def test_an_opening_leaves_no_embedded_server_behind(tmp_path: Path):
    for moment in (0, 1, 2, 5, 20, 200, 2000):
        log = EventLog.open(data_dir=str(tmp_path), partition_count=1)
        opening = asyncio.create_task(log.__aenter__())
        if not await cancelled_after(moment, opening):
            await log.close()
        assert EmbeddedServer(Settings(data_dir=str(tmp_path))).pid is None
    gc.collect()


@pytest.mark.parametrize("with_spool", [False, True])
async def test_a_closing_that_is_cancelled_has_closed(
    server_url: str, tmp_path: Path, with_spool: bool
):
    prefix = f"cancel{next(_numbers)}"
    spool = {"spool_dir": str(tmp_path / "spool")} if with_spool else {}
    events = []
    for moment in range(20):
        log = EventLog.open(server_url, key_prefix=prefix, partition_count=2, **spool)
        await log
        events.append(message("c", moment))
        appending = asyncio.create_task(log.append(events[-1]))
        await turns(moment % 4)
        await cancelled_after(moment, asyncio.create_task(log.close()))
        await log.close()
        await asyncio.wait([appending])
        appending.exception()
        async with EventLog.open(server_url, key_prefix=prefix, **spool) as again:
            await again.append(events)  # whatever became of it
            assert await all_texts(again, "c") == [str(n) for n in range(moment + 1)]
        gc.collect()
    assert not with_spool or list((tmp_path / "spool").iterdir()) == []


async def test_appends_that_are_spooled(tmp_path: Path):
    events = [message("c", moment) for moment in MOMENTS]
    with RawServer(tmp_path, appendonly="yes", appendfsync="always") as server:
        settings = {"spool_dir": str(tmp_path / "spool"), "max_retries": 0, "partition_count": 1}
        async with EventLog.open(server.url, **settings) as log:
            server.stop()
            for moment, event in zip(MOMENTS, events, strict=True):
                await cancelled_after(moment, asyncio.create_task(log.append(event)))
                assert (await log.append(event)).is_spooled
            server.start()
            await eventually(lambda: not log.is_degraded)
            assert await all_texts(log, "c") == [str(n) for n in MOMENTS]
