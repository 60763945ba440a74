"""A worker: what it handles, in which order, how much at once, and how it ends."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter

import pytest

from consumers import Limits, Worker
from consumers.retry import Retry
from eventlog import EventLog, MessageReceived, MessageSent, SessionTouched
from eventlog.errors import ConfigurationError
from tests.logs import conversation_in, message, messages
from tests.support import eventually
from tests.working import (
    QUICK,
    Seen,
    all_handled,
    at_work,
    events,
    nothing_is_left,
)


async def append_in_turn(log: EventLog, chats: int, per_chat: int) -> list[str]:
    """Append to several conversations in turn; return their names."""
    names = [f"chat:{n}" for n in range(chats)]
    await log.append([message(name, n) for n in range(per_chat) for name in names])
    return names


class TestOrder:
    async def test_each_conversation_in_order_many_at_once(self, log):
        names = await append_in_turn(log, 50, 40)
        seen = Seen()
        at_once = set()
        highest = 0
        worker = Worker(log, "g")

        @worker.on("message.received")
        async def handle(event, context):
            nonlocal highest
            assert event.conversation not in at_once
            at_once.add(event.conversation)
            highest = max(highest, len(at_once))
            await asyncio.sleep(0)
            seen.note(event, context)
            at_once.remove(event.conversation)

        assert await worker.run_once() == 2000
        assert seen.texts == {name: [str(n) for n in range(40)] for name in names}
        assert highest > 1
        await nothing_is_left(log, "g")

    async def test_no_more_at_once_than_allowed_over_all_partitions(self, log):
        await append_in_turn(log, 40, 5)
        running, highest = 0, 0
        worker = Worker(log, "g", limits=Limits(concurrency=7))

        @worker.on("message.received")
        async def handle(_event, _context):
            nonlocal running, highest
            running += 1
            highest = max(highest, running)
            await asyncio.sleep(0.001)
            running -= 1

        await worker.run_once()
        assert highest == 7

    async def test_no_more_at_once_in_a_partition_than_allowed_there(self, log):
        await append_in_turn(log, 40, 5)
        running: Counter[int] = Counter()
        highest: Counter[int] = Counter()
        worker = Worker(log, "g", limits=Limits(concurrency=50, partition_concurrency=2))

        @worker.on("message.received")
        async def handle(_event, context):
            running[context.partition] += 1
            highest[context.partition] = max(highest[context.partition], running[context.partition])
            await asyncio.sleep(0.001)
            running[context.partition] -= 1

        assert await worker.run_once() == 200
        assert set(highest.values()) == {2}

    async def test_one_at_a_time_serves_every_partition(self, log):
        names = await append_in_turn(log, 20, 20)
        seen = Seen()
        worker = Worker(log, "g", limits=Limits(concurrency=1))
        worker.on("message.received")(seen)
        await worker.run_once()
        assert seen.texts == {name: [str(n) for n in range(20)] for name in names}

    async def test_a_conversation_with_very_much_leaves_the_others_their_turn(self, log):
        busy, calm = conversation_in(log, 0), conversation_in(log, 0, 1)
        await log.append(messages(busy, 5000))
        await log.append(messages(calm, 3))
        seen = Seen()
        release = asyncio.Event()
        worker = Worker(log, "g")

        @worker.on("message.received")
        async def handle(event, context):
            if event.conversation == busy:
                await release.wait()
            seen.note(event, context)

        async with at_work(worker):
            await eventually(lambda: len(seen.texts[calm]) == 3)
            assert not seen.texts[busy]
            release.set()
            await all_handled(worker, 20)
        assert seen.texts[busy] == [str(n) for n in range(5000)]


class TestResults:
    async def test_they_are_in_the_log_with_the_acknowledgement(self, log):
        await append_in_turn(log, 10, 3)
        worker = Worker(log, "g")

        @worker.on("message.received")
        async def handle(event, context):
            context.append(MessageSent(conversation=event.conversation, text=f"re {event.text}"))

        assert await worker.run_once() == 60  # the answers are passed over
        sent = await events(log, MessageSent)
        assert len(sent) == 30
        by_cause = {each.causation_id: each for each in sent}
        for received in await events(log, MessageReceived):
            assert by_cause[received.id].text == f"re {received.text}"
            assert by_cause[received.id].conversation == received.conversation

    async def test_an_attempt_that_fails_leaves_nothing(self, log):
        await log.append(message("c", "x"))
        worker = Worker(log, "g")

        @worker.on("message.received", retry=QUICK)
        async def handle(_event, context):
            context.append(MessageSent(conversation="c", text=f"{context.attempt}"))
            if context.attempt < 3:
                raise ValueError

        async with at_work(worker):
            await all_handled(worker)
        assert [each.text for each in await events(log, MessageSent)] == ["3"]

    async def test_those_of_other_partitions_are_written_once_over_several_attempts(self, log):
        here, there = conversation_in(log, 0), conversation_in(log, 1)
        await log.append(message(here, "x"))
        worker = Worker(log, "g")

        @worker.on("message.received", retry=QUICK)
        async def handle(_event, context):
            context.append(MessageSent(conversation=there, text="copy"))
            context.append(
                SessionTouched(conversation=here, session="s"),
                expected_version=0 if context.attempt == 3 else 7,
            )

        async with at_work(worker):
            await all_handled(worker)
        assert [each.conversation for each in await events(log, MessageSent)] == [there]
        assert len(await events(log, SessionTouched)) == 1

    async def test_a_version_that_is_not_as_expected_is_a_failure(self, log):
        chat = conversation_in(log, 2)
        await log.append(SessionTouched(conversation=chat, session="s"))
        await log.append(messages(chat, 2))
        seen = Seen()
        worker = Worker(log, "g")

        @worker.on("message.received", retry=QUICK)
        async def handle(event, context):
            seen.note(event, context)
            if event.text == "0":
                context.append(
                    SessionTouched(conversation=chat, session="s"),
                    expected_version=1 if context.attempt == 2 else 0,
                )

        async with at_work(worker):
            await all_handled(worker)
        assert seen.texts[chat] == ["0", "0", "1"]
        assert seen.attempts["0"] == [1, 2]
        assert len(await events(log, SessionTouched)) == 2
        await nothing_is_left(log, "g")


class TestThreads:
    async def test_plain_functions_run_in_threads_in_order(self, log):
        names = await append_in_turn(log, 5, 10)
        seen, threads = Seen(), set()
        worker = Worker(log, "g")

        @worker.on("message.received")
        def handle(event, context):
            threads.add(threading.current_thread())
            seen.note(event, context)
            context.append(MessageSent(conversation=event.conversation, text="ok"))

        await worker.run_once()
        assert threading.main_thread() not in threads
        assert seen.texts == {name: [str(n) for n in range(10)] for name in names}
        assert len(await events(log, MessageSent)) == 50


class TestWhatIsNotHandled:
    async def test_it_is_acknowledged(self, log):
        await append_in_turn(log, 5, 10)
        worker = Worker(log, "g")
        worker.on("message.sent")(Seen())
        assert await worker.run_once() == 50
        await nothing_is_left(log, "g")

    async def test_what_waits_in_a_line_for_a_handler_there_is_no_more(self, log):
        await log.append(messages("c", 2))
        first, second = Worker(log, "g"), Worker(log, "g")

        @first.on("message.received", retry=Retry(first_delay_s=0.1, jitter=0))
        async def fail(_event, _context):
            raise ValueError

        await first.run_once()
        async with at_work(second):
            await all_handled(second)
        await nothing_is_left(log, "g")

    async def test_a_new_group_begins_with_the_first_entry_or_now(self, log):
        await append_in_turn(log, 4, 5)
        early, late = Seen(), Seen()
        now = Worker(log, "late", start="now")
        now.on("message.received")(late)
        await now.run_once()
        await log.append(message("chat:0", "news"))
        assert await now.run_once() == 1
        assert late.texts == {"chat:0": ["news"]}
        beginning = Worker(log, "early")
        beginning.on("message.received")(early)
        assert await beginning.run_once() == 21

    async def test_groups_are_independent(self, log):
        await append_in_turn(log, 4, 5)
        for name in ("one", "two"):
            seen = Seen()
            worker = Worker(log, name)
            worker.on("message.received")(seen)
            assert await worker.run_once() == 20
            assert seen.count == 20
            assert await worker.run_once() == 0


async def test_limits_that_cannot_be_kept(log):
    for limits in (Limits(concurrency=0), Limits(max_strikes=0), Limits(stop_timeout_s=-1)):
        with pytest.raises(ConfigurationError, match="cannot keep"):
            Worker(log, "g", limits=limits)
    async with EventLog.in_memory() as in_memory:
        with pytest.raises(ConfigurationError, match="server"):
            Worker(in_memory, "g")


async def test_names_that_no_group_can_have(log):
    for name in ("", "projector", "archiver", "a b", "x" * 65, "a/b", "a:b"):
        with pytest.raises(ConfigurationError, match="no name"):
            await Worker(log, name).run_once()
