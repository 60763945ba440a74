"""How a worker comes to its end, and what it leaves to the next."""

from __future__ import annotations

import asyncio
import sys

import pytest

from consumers import Limits, Worker
from consumers.retry import Retry
from eventlog import DeadLetterParked, EventLog, MessageSent
from eventlog.errors import HistoryGap, InvalidEvent
from tests.logs import conversation_in, message, messages
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


async def append_in_turn(log: EventLog, chats: int, per_chat: int) -> list[str]:
    """Append to several conversations in turn; return their names."""
    names = [f"chat:{n}" for n in range(chats)]
    await log.append([message(name, n) for n in range(per_chat) for name in names])
    return names


class TestTheEnd:
    async def test_what_runs_is_finished(self, log):
        await append_in_turn(log, 8, 2)
        seen, release = Seen(), asyncio.Event()
        worker = Worker(log, "g")
        begun = set()

        @worker.on("message.received")
        async def handle(event, context):
            begun.add(event.conversation)
            await release.wait()
            seen.note(event, context)

        running = asyncio.create_task(worker.run())
        await eventually(lambda: len(begun) == 8)
        worker.stop()
        await eventually(lambda: worker._leased._endings)
        release.set()
        await running
        assert seen.texts == {f"chat:{n}": ["0"] for n in range(8)}
        assert worker.settled_count == 8
        assert await Worker(log, "g", worker.handlers).run_once() == 8
        assert seen.texts == {f"chat:{n}": ["0", "1"] for n in range(8)}

    async def test_what_does_not_end_in_time_is_returned_without_a_strike(self, log):
        await append_in_turn(log, 4, 3)
        for _ in range(4):
            begun = []
            worker = Worker(log, "g", limits=Limits(stop_timeout_s=0, max_strikes=2))

            @worker.on("message.received")
            async def hang(event, _context, begun=begun):
                begun.append(event.conversation)
                await asyncio.Event().wait()

            async with at_work(worker):
                await eventually(lambda begun=begun: len(begun) == 4)
        seen = Seen()
        last = Worker(log, "g", limits=Limits(max_strikes=2))
        last.on("message.received")(seen)
        await last.run_once()
        assert seen.texts == {f"chat:{n}": ["0", "1", "2"] for n in range(4)}
        assert set(map(tuple, seen.attempts.values())) == {(1,) * 4}
        await nothing_is_left(log, "g")

    async def test_a_cancelled_one_leaves_all_to_the_next(self, log):
        await append_in_turn(log, 4, 3)
        seen, worker = Seen(), Worker(log, "g")

        @worker.on("message.received")
        async def hang(event, context):
            seen.note(event, context)
            await asyncio.Event().wait()

        async with killed_at_the_end(worker):
            await eventually(lambda: seen.count == 4)
        again = Seen()
        successor = Worker(log, "g")
        successor.on("message.received")(again)
        await successor.run_once()
        assert again.texts == {f"chat:{n}": ["0", "1", "2"] for n in range(4)}

    async def test_running_once_waits_for_nobody(self, log):
        await log.append([message("bad", "x"), message("bad", "y"), message("good", "z")])
        seen, worker = Seen(), Worker(log, "g")

        @worker.on("message.received", retry=Retry(first_delay_s=100))
        async def handle(event, context):
            seen.note(event, context)
            if event.conversation == "bad":
                raise ValueError

        assert await worker.run_once() == 1
        assert seen.texts == {"bad": ["x"], "good": ["z"]}

    async def test_running_once_says_that_history_is_gone(self, log):
        chat = conversation_in(log, 1)
        await log.append(messages(chat, 10))
        worker = Worker(log, "g")
        worker.on("message.received")(Seen())
        await worker.run_once()
        await log.client.delete(log.keys.stream(1), log.keys.head(1), *log.keys.dedup(1))
        with pytest.raises(HistoryGap, match="ends at"):
            await worker.run_once()

    @pytest.mark.parametrize("how", ["raises", "cancels itself", "is cancelled", "exits"])
    async def test_a_handler_that_ends_its_task_ends_only_its_attempt(self, log, how):
        await log.append([message("c", "x"), message("c", "y")])
        seen, worker = Seen(), Worker(log, "g")

        async def end_it() -> None:
            task = asyncio.current_task()
            assert task is not None
            match how:
                case "raises":
                    raise asyncio.CancelledError
                case "exits":
                    sys.exit("that is all")
                case "cancels itself":
                    task.cancel()
                case "is cancelled":
                    asyncio.get_running_loop().call_soon(task.cancel)
            await asyncio.Event().wait()

        @worker.on("message.received", retry=QUICK)
        async def handle(event, context):
            seen.note(event, context)
            if event.text == "x":
                await end_it()

        async with at_work(worker):
            await all_handled(worker)
        assert seen.texts["c"] == ["x", "x", "x", "y"]
        [letter] = await events(log, DeadLetterParked)
        assert letter.reason == ("attempt_failed" if how == "exits" else "cancelled")

    async def test_what_it_leaves_running_appends_nothing(self, log):
        await log.append(message("c", "x"))
        worker, late = Worker(log, "g"), asyncio.get_running_loop().create_future()
        running: list[asyncio.Task[None]] = []

        @worker.on("message.received")
        async def handle(_event, context):
            async def go_on() -> None:
                await turns(20)
                try:
                    context.append(MessageSent(conversation="c", text="late"))
                except InvalidEvent as error:
                    late.set_result(str(error))

            running.append(asyncio.create_task(go_on()))

        await worker.run_once()
        assert "after the attempt has ended" in await late
        assert await events(log, MessageSent) == []
