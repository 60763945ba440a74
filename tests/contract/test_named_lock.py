"""Locks by name: one holder over tasks and processes, and an end to those whose holder died."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from eventlog.errors import LogUnavailable
from eventlog.log import EventLog
from eventlog.named_lock import KEPT_MS, NamedLock
from eventlog.scoped import scoped
from eventlog.scripts import load_script
from tests.support import RawServer, eventually, turns

HOLDING = """
import asyncio, sys
from eventlog import EventLog
from eventlog.named_lock import NamedLock

async def main(url, prefix, count):
    async with EventLog.open(url, key_prefix=prefix, lease_ttl_ms=600) as log:
        print("ready", flush=True)
        for _ in range(int(count)):
            async with NamedLock(log, "c", "agent").hold():
                key = f"{prefix}:counter"
                seen = int(await log.client.get(key) or 0)
                await asyncio.sleep(0.002)
                await log.client.set(key, seen + 1)
        async with NamedLock(log, "c", "held").hold():
            print("holds", flush=True)
            await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


def _key(log: EventLog, name: str) -> str:
    return log.keys.lock(log.partition_of("c"), scoped("c", name))


async def holding_process(log: EventLog, url: str, count: int) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", HOLDING, url, log.settings.key_prefix, str(count)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    return process


async def test_one_task_at_a_time_in_the_order_they_asked(any_log: EventLog) -> None:
    inside: list[int] = []
    turns_taken: list[int] = []

    async def work(number: int) -> None:
        async with NamedLock(any_log, "c", "agent").hold():
            assert inside == []
            inside.append(number)
            await turns(3)
            turns_taken.append(inside.pop())

    await asyncio.gather(*(work(n) for n in range(20)))
    assert turns_taken == [*range(20)]


async def test_other_names_and_conversations_are_other_locks(any_log: EventLog) -> None:
    async with (
        NamedLock(any_log, "c", "a").hold(),
        NamedLock(any_log, "c", "b").hold(),
        NamedLock(any_log, "c:a", "").hold(),
        NamedLock(any_log, "d", "a").hold(),
    ):
        pass


async def test_what_is_held_waits_until_it_is_given_back(log: EventLog) -> None:
    """Held by an owner whom this process does not know, so that the server decides."""
    lock, order = NamedLock(log, "c", "a"), list[str]()
    other = NamedLock(log, "c", "a")
    assert await other._take() > 0

    async def wait() -> None:
        async with lock.hold():
            order.append("held")

    waiting = asyncio.create_task(wait())
    for _ in range(3):
        await log.ping()
    assert not waiting.done()
    order.append("given back")
    other._generation = await other._take()
    await other._give_back()
    await waiting
    assert order == ["given back", "held"]


async def test_the_generation_grows_with_every_holder_and_fences(log: EventLog) -> None:
    generations = []
    for _ in range(3):
        lock = NamedLock(log, "c", "a")
        async with lock.hold():
            generations.append(lock.generation)
            assert await lock.is_ours()
        assert lock.generation == 0
    assert generations == sorted(set(generations))
    stale, thief = NamedLock(log, "c", "a"), NamedLock(log, "c", "a")
    async with stale.hold():
        await log.client.hset(stale._key, "expires_ms", 0)  # as if it had slept for too long
        assert await thief._take() > stale.generation
        assert not await stale.is_ours()
    assert not await NamedLock(log, "c", "a")._take(), "what was lost is not given back"


async def test_an_error_inside_gives_the_lock_back(any_log: EventLog) -> None:
    with pytest.raises(RuntimeError, match="inside"):
        async with NamedLock(any_log, "c", "a").hold():
            raise RuntimeError("inside")
    async with asyncio.timeout(1), NamedLock(any_log, "c", "a").hold():
        pass


async def test_who_gives_up_waiting_leaves_nothing_behind(any_log: EventLog) -> None:
    async with NamedLock(any_log, "c", "a").hold():
        waiting = asyncio.create_task(NamedLock(any_log, "c", "a").hold().__aenter__())
        await turns(5)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    async with asyncio.timeout(1), NamedLock(any_log, "c", "a").hold():
        pass


@pytest.mark.parametrize("moment", range(6))
async def test_who_is_cancelled_while_giving_it_back_has_given_it_back(moment: int) -> None:
    async with EventLog.in_memory() as log:  # where nothing lapses
        begun = asyncio.Event()

        async def hold_for_a_moment() -> None:
            async with NamedLock(log, "chat:1", "agent").hold():
                begun.set()

        holder = asyncio.create_task(hold_for_a_moment())
        await begun.wait()
        await turns(moment)
        holder.cancel()
        await asyncio.wait([holder])
        async with asyncio.timeout(1), NamedLock(log, "chat:1", "agent").hold():
            pass


async def test_who_is_cancelled_while_asking_for_it_does_not_have_it(log: EventLog) -> None:
    async def work(lock: NamedLock) -> None:
        async with lock.hold():
            await asyncio.Event().wait()

    for moment in range(20):
        working = asyncio.create_task(work(NamedLock(log, "c", f"agent{moment}")))
        await turns(moment)
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        assert await log.client.hget(_key(log, f"agent{moment}"), "owner") in (None, b""), moment


async def test_processes_take_turns(log: EventLog, server_url: str) -> None:
    processes = [await holding_process(log, server_url, 25) for _ in range(2)]
    try:
        key = f"{log.settings.key_prefix}:counter"
        await eventually(lambda: _is(log, key, b"50"))
    finally:
        for process in processes:
            process.kill()
            await process.communicate()


async def _is(log: EventLog, key: str, value: bytes) -> bool:
    return bool(await log.client.get(key) == value)


async def test_the_lock_of_a_killed_process_lapses(log: EventLog, server_url: str) -> None:
    process = await holding_process(log, server_url, 0)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"holds\n"
    taking = asyncio.create_task(NamedLock(log, "c", "held").hold().__aenter__())
    key = NamedLock(log, "c", "held")._key
    renewed = {await log.client.hget(key, "expires_ms")}

    async def is_renewed_twice() -> bool:
        renewed.add(await log.client.hget(key, "expires_ms"))
        return len(renewed) > 2

    await eventually(is_renewed_twice)
    assert not taking.done(), "a holder that lives renews it"
    process.kill()
    await process.communicate()
    async with asyncio.timeout(5):
        await taking


async def test_a_lock_that_nobody_uses_is_forgotten(log: EventLog) -> None:
    lock = NamedLock(log, "c", "a")
    async with lock.hold():
        pass
    left_ms = await log.client.pttl(lock._key)
    assert KEPT_MS < left_ms <= KEPT_MS + log.settings.lease_ttl_ms


async def test_the_script_answers_what_its_header_says(log: EventLog) -> None:
    acquire = load_script("eventlog", "lock_acquire")
    key = log.keys.lock(0, "x")
    first = await acquire(log.client, [key], ["a", 10_000, 50])
    assert first > 1_700_000_000_000
    assert await acquire(log.client, [key], ["a", 10_000, 50]) == first
    assert await acquire(log.client, [key], ["b", 10_000, 50]) == 0
    assert await load_script("eventlog", "lease_release")(log.client, [key], [first]) == 1
    assert await acquire(log.client, [key], ["b", 10_000, 50]) > first


async def test_the_generation_grows_even_after_the_server_forgot_the_lock(log: EventLog) -> None:
    acquire, key = load_script("eventlog", "lock_acquire"), log.keys.lock(0, "x")
    first = await acquire(log.client, [key], ["a", 1, 1])

    async def is_forgotten() -> bool:
        return not await log.client.exists(key)

    await eventually(is_forgotten)
    assert await acquire(log.client, [key], ["b", 1, 1]) > first


async def test_without_a_server(tmp_path: Path) -> None:
    with RawServer(tmp_path) as server:
        async with EventLog.open(server.url, max_retries=0) as log:
            lock = NamedLock(log, "c", "a")
            async with lock.hold():
                server.kill()
            with pytest.raises(LogUnavailable):
                async with lock.hold():
                    pass
            server.start()
            async with lock.hold():
                pass
