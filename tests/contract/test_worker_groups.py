"""Several workers of a group, and groups that are lost, taken over, retired."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from consumers import Handlers, Limits, Retry, Worker, groups, retire
from consumers.groups import forget
from eventlog import START, EventLog, MessageSent
from eventlog.errors import GroupInUse, GroupMissing
from eventlog.vocabulary import GroupRetired
from tests.logs import message
from tests.support import eventually, turns
from tests.working import (
    QUICK,
    Seen,
    all_handled,
    at_work,
    events,
    killed_at_the_end,
    nothing_is_left,
)


@pytest.fixture
async def brisk(log: EventLog) -> AsyncIterator[EventLog]:
    """The same log with leases that soon lapse."""
    async with EventLog.open(
        settings=log.settings, url=log.settings.url, lease_ttl_ms=400
    ) as opened:
        yield opened


async def append(log: EventLog, first: int, count: int, chats: int = 20) -> None:
    await log.append([message(f"chat:{n % chats}", n) for n in range(first, first + count)])


def in_order(chats: int, count: int) -> dict[str, list[str]]:
    return {f"chat:{c}": [str(n) for n in range(c, count, chats)] for c in range(chats)}


async def destroy(log: EventLog, group: str = "g") -> None:
    for partition in range(log.partition_count):
        await log.client.xgroup_destroy(log.keys.stream(partition), group)


class TestSharing:
    async def test_two_share_and_hand_over_without_running_anything_twice(self, brisk):
        seen, handlers = Seen(), Handlers()
        running: Counter[str] = Counter()

        @handlers.on("message.received")
        async def handle(event, context):
            running[event.conversation] += 1
            assert running[event.conversation] == 1
            await turns(2)
            seen.note(event, context)
            running[event.conversation] -= 1

        one = Worker(brisk, "g", handlers, owner="one")
        two = Worker(brisk, "g", handlers, owner="two")

        async def owners() -> set[str | None]:
            return {each.owner for each in (await one.status()).partitions}

        async with at_work(one):
            await append(brisk, 0, 1000)
            async with at_work(two):

                async def both() -> bool:
                    return await owners() == {"one", "two"}

                await append(brisk, 1000, 1000)
                await eventually(both)
                await append(brisk, 2000, 1000)
                await eventually(lambda: two.settled_count > 0)
            await append(brisk, 3000, 1000)
            await all_handled(one)
        assert seen.texts == in_order(20, 4000)
        assert one.settled_count + two.settled_count == 4000
        assert two.settled_count > 0
        await nothing_is_left(brisk, "g")

    async def test_a_dead_one_s_partitions_are_taken_over(self, brisk):
        await append(brisk, 0, 40)
        hung, worker = Seen(), Worker(brisk, "g", limits=Limits(stop_timeout_s=0))

        @worker.on("message.received")
        async def hang(event, context):
            hung.note(event, context)
            await asyncio.Event().wait()

        seen, heir = Seen(), Worker(brisk, "g")
        heir.on("message.received")(seen)
        async with killed_at_the_end(worker):
            await eventually(lambda: hung.count == 20)
        async with at_work(heir):
            await all_handled(heir)
        assert seen.texts == in_order(20, 40)


class TestLost:
    async def test_while_nobody_works(self, log):
        await append(log, 0, 100)
        seen, handlers = Seen(), Handlers()
        handlers.on("message.received")(seen)
        await Worker(log, "g", handlers).run_once()
        await destroy(log)
        await append(log, 100, 100)
        await destroy(log)
        assert await Worker(log, "g", handlers).run_once() == 100
        assert seen.texts == in_order(20, 200)
        await nothing_is_left(log, "g")

    async def test_while_somebody_works(self, log):
        seen, worker = Seen(), Worker(log, "g")

        @worker.on("message.received", retry=QUICK)
        async def handle(event, context):
            await turns(3)
            if int(event.text) % 50 == 7 and context.attempt == 1:
                raise ValueError
            seen.note(event, context)
            context.append(MessageSent(conversation=event.conversation, text=event.text))

        async with at_work(worker):
            for n in range(8):
                await append(log, 250 * n, 250)
                await eventually(lambda n=n: seen.count > 250 * n + 20)
                await destroy(log)
            await all_handled(worker)
        assert seen.texts == in_order(20, 2000)
        assert len(await events(log, MessageSent)) == 2000
        await nothing_is_left(log, "g")

    async def test_with_blocked_conversations(self, log):
        await append(log, 0, 60)
        fail, handlers = [True], Handlers()
        seen = Seen()

        @handlers.on("message.received", retry=Retry(first_delay_s=0.3, jitter=0))
        async def handle(event, context):
            if fail and event.conversation in ("chat:3", "chat:4"):
                raise ValueError
            seen.note(event, context)

        await Worker(log, "g", handlers).run_once()
        fail.clear()
        await destroy(log)
        worker = Worker(log, "g", handlers)
        async with at_work(worker):
            await all_handled(worker)
        assert seen.texts == in_order(20, 60)
        await nothing_is_left(log, "g")

    async def test_running_once_finds_what_was_in_hand(self, log):
        await append(log, 0, 40)
        hung, worker = Seen(), Worker(log, "g")

        @worker.on("message.received")
        async def hang(event, context):
            hung.note(event, context)
            await asyncio.Event().wait()

        async with killed_at_the_end(worker):
            await eventually(lambda: hung.count == 20)
        await destroy(log)
        seen, heir = Seen(), Worker(log, "g")
        heir.on("message.received")(seen)
        assert await heir.run_once() == 40
        assert seen.texts == in_order(20, 40)


class TestForeignNames:
    async def test_one_is_taken_over_then_removed(self, log):
        await append(log, 0, 40)
        seen, worker = Seen(), Worker(log, "g")
        worker.on("message.received")(seen)
        await worker.run_once()
        await append(log, 40, 40)
        for partition in range(4):
            stream = log.keys.stream(partition)
            await log.client.xreadgroup("g", "ops-shell", {stream: ">"}, 5)
        assert sum(each.foreign_count for each in (await worker.status()).partitions) > 0
        assert await worker.run_once() == 40
        assert seen.texts == in_order(20, 80)
        for partition in range(4):
            found = await log.client.xinfo_consumers(log.keys.stream(partition), "g")
            assert b"ops-shell" not in {each["name"] for each in found}


class TestRetiring:
    async def test_it_leaves_nothing_but_an_event(self, log):
        await append(log, 0, 40)
        worker = Worker(log, "g")

        @worker.on("message.received", retry=QUICK)
        async def fail(_event, _context):
            raise ValueError

        await worker.run_once()
        assert [each.name for each in await groups(log)] == ["g"]
        status = await retire(log, "g", "not needed")
        [event] = await events(log, GroupRetired)
        assert (event.group, event.reason) == ("g", "not needed")
        assert event.unhandled_count == status.lag_count
        assert await groups(log) == []
        keys = [key.decode() async for key in log.client.scan_iter(f"*{log.keys.log}*")]
        assert [key for key in keys if key.endswith(":g") or ":1:g:" in key] == []
        with pytest.raises(GroupMissing):
            await retire(log, "g", "again")

    async def test_not_while_it_has_workers(self, log):
        worker = Worker(log, "g", owner="me")
        async with at_work(worker):
            await eventually(worker_is_member(worker))
            with pytest.raises(GroupInUse, match="me"):
                await retire(log, "g", "not needed")
        await retire(log, "g", "not needed")

    async def test_a_worker_that_slept_through_it_ends_and_says_why(self, brisk):
        worker = Worker(brisk, "g")
        worker.on("message.received")(Seen())
        running = asyncio.create_task(worker.run())
        await append(brisk, 0, 10)
        await all_handled(worker)
        await forget(brisk, "g")
        with pytest.raises(GroupMissing, match="was retired"):
            await running

    async def test_one_of_the_same_name_is_a_new_one(self, log):
        await append(log, 0, 20)
        seen, handlers = Seen(), Handlers()
        handlers.on("message.received")(seen)
        await Worker(log, "g", handlers).run_once()
        await retire(log, "g", "to begin anew")
        await Worker(log, "g", handlers).run_once()
        assert seen.count == 40


def worker_is_member(worker: Worker):
    async def is_member() -> bool:
        return bool((await worker.status()).members)

    return is_member


async def test_a_group_s_place_is_told_truthfully(log):
    await append(log, 0, 40)
    worker = Worker(log, "g")
    worker.on("message.received")(Seen())
    await worker.run_once()
    status = await worker.status()
    assert (status.lag_count, status.pending_count, status.blocked_count) == (0, 0, 0)
    await append(log, 40, 10)
    assert (await worker.status()).lag_count == 10
    assert (await log.read_raw(0, START, 1))[0].id <= status.partitions[0].head
