"""Attempts that never come to an end, because their process does: strikes."""

from __future__ import annotations

import asyncio

from consumers import Limits, Retry, Worker
from eventlog import EventLog
from eventlog.vocabulary import DeadLetterParked
from tests.logs import conversation_in, message
from tests.support import eventually
from tests.working import (
    Seen,
    all_handled,
    at_work,
    events,
    killed_at_the_end,
    nothing_is_left,
)


async def parked(log: EventLog) -> list[DeadLetterParked]:
    return await events(log, DeadLetterParked)


class TestStrikes:
    async def test_what_never_comes_to_an_end_is_parked(self, log):
        await log.append([message("c", "killer"), message("c", "next")])
        begun = []
        for _ in range(4):  # of the first one nobody can tell whether it was begun
            worker = Worker(log, "g")

            @worker.on("message.received")
            async def die(event, _context):
                begun.append(event.text)
                await asyncio.Event().wait()

            before = len(begun)
            async with killed_at_the_end(worker):
                await eventually(lambda before=before: len(begun) > before)
        seen, last = Seen(), Worker(log, "g")
        last.on("message.received")(seen)
        async with at_work(last):
            await all_handled(last)
        assert begun == ["killer"] * 4
        assert seen.texts["c"] == ["next"]
        [letter] = await parked(log)
        assert letter.reason == "worker_died"
        assert "begun 3 times" in letter.error
        await nothing_is_left(log, "g")

    async def test_those_that_ran_beside_it_are_not_parked(self, log):
        names = [conversation_in(log, 0, n) for n in range(6)]
        await log.append([message(name, name) for name in names])
        begun: list[str] = []

        async def hang(event, _context):
            begun.append(event.text)
            await asyncio.Event().wait()

        for _ in range(2):
            worker = Worker(log, "g", limits=Limits(max_strikes=3))
            worker.on("message.received")(hang)
            before = len(begun)
            async with killed_at_the_end(worker):
                await eventually(lambda before=before: len(begun) == before + 6)
        # From now on one of them alone is deadly: whoever comes first.
        for _ in range(4):
            worker = Worker(log, "g", limits=Limits(max_strikes=3))
            deadly, seen = [], Seen()

            @worker.on("message.received")
            async def handle(event, context, deadly=deadly, seen=seen):
                if event.text == min(names):
                    deadly.append(event.text)
                    await asyncio.Event().wait()
                seen.note(event, context)

            async with killed_at_the_end(worker):
                await eventually(lambda d=deadly, w=worker: d or _nothing_to_do(w), timeout_s=5)
        assert [each.text for each in await parked(log)] == [min(names)]

    async def test_a_failure_forgets_them(self, log):
        await log.append(message("c", "x"))
        calls = []
        for how in ("hang", "hang", "fail", "hang", "succeed"):
            worker = Worker(log, "g", limits=Limits(max_strikes=3))

            @worker.on("message.received", retry=Retry(attempts=5, first_delay_s=0))
            async def handle(_event, _context, how=how, mine=[]):  # noqa: B006 - one list a worker
                calls.append(how)
                if how == "hang" or mine:
                    await asyncio.Event().wait()
                mine.append(how)
                if how == "fail":
                    raise ValueError

            expected = len(calls) + (2 if how == "fail" else 1)
            async with killed_at_the_end(worker):
                if how == "succeed":
                    await all_handled(worker)
                else:
                    await eventually(lambda n=expected: len(calls) == n)
        assert await parked(log) == []


async def _nothing_to_do(worker: Worker) -> bool:
    return (await worker.status()).lag_count == 0
