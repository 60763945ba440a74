"""One program at a time works on a session; who lost the lock records nothing."""

from __future__ import annotations

import asyncio

import pytest

from bridge import Bridge
from eventlog import EventLog, MessageSent
from eventlog.errors import Fenced, SessionMissing
from eventlog.named_lock import NamedLock


async def stolen(log: EventLog, lock: NamedLock) -> None:
    """Let the lock lapse and another program take it, as if its holder had slept."""
    assert lock.fence
    await log.client.delete(lock.fence.key)
    await log.client.hset(
        lock.fence.key,
        mapping={
            "owner": "another",
            "generation": lock.fence.generation + 1,
            "expires_ms": 2**52,
        },
    )


async def test_tasks_and_programs_take_turns(any_log: EventLog) -> None:
    bridges = [Bridge(any_log), Bridge(any_log)]
    session = await bridges[0].sessions.resolve("telegram", 7)
    count = 0

    async def count_up(bridge: Bridge) -> None:
        nonlocal count
        async with bridge.sessions.lock(session.id):
            seen = count
            await any_log.ping()  # lets the others run
            count = seen + 1

    await asyncio.gather(*(count_up(bridges[n % 2]) for n in range(20)))
    assert count == 20


async def test_what_is_said_under_the_lock_is_recorded_and_after_it_was_lost_is_not(
    log: EventLog,
) -> None:
    bridge = Bridge(log)
    session = await bridge.sessions.resolve("telegram", 7)
    async with bridge.sessions.lock(session.id) as lock:
        first = await bridge.sent(session, "one", message_id=1, fence=lock.fence)
        await stolen(log, lock)
        with pytest.raises(Fenced):
            await bridge.sent(session, "two", message_id=2, fence=lock.fence)
        with pytest.raises(Fenced):
            await log.append(
                [MessageSent(conversation=session.conversation, text=text) for text in "ab"],
                fence=lock.fence,
            )
        # What is recorded already is so, whoever asks again because the reply was lost.
        again = await bridge.sent(session, "one", message_id=1, fence=lock.fence)
        assert (again.id, again.duplicate) == (first.id, True)
        assert not await lock.is_ours()
    said = [entry.event for entry in (await bridge.history(session)).entries]
    assert [event.text for event in said if isinstance(event, MessageSent)] == ["one"]
    assert lock.fence is None


async def test_a_lock_that_was_forgotten_fences_as_well(log: EventLog) -> None:
    bridge = Bridge(log)
    session = await bridge.sessions.resolve("telegram", 7)
    async with bridge.sessions.lock(session.id) as lock:
        fence = lock.fence
        assert fence
        await log.client.delete(fence.key)
        with pytest.raises(Fenced):
            await bridge.received(session, "late", fence=fence)


async def test_others_appends_are_not_held_up_by_one_that_is_fenced(log: EventLog) -> None:
    bridge = Bridge(log)
    session = await bridge.sessions.resolve("telegram", 7)
    async with bridge.sessions.lock(session.id) as lock:
        fence = lock.fence
        await stolen(log, lock)
        results = await asyncio.gather(
            *(bridge.sent(session, str(n), fence=fence if n == 5 else None) for n in range(10)),
            return_exceptions=True,
        )
    assert [n for n, result in enumerate(results) if isinstance(result, Fenced)] == [5]


async def test_there_is_no_lock_without_a_session(log: EventLog) -> None:
    with pytest.raises(SessionMissing):
        async with Bridge(log).sessions.lock("nobody"):
            pass
