"""Failing handlers: attempts, due times, strikes, and what is parked."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from consumers import Handlers, Retry, Verdict, Worker
from consumers.registration import register
from consumers.settlement import Settlement
from eventlog import START, BridgeEvent, EventLog, MessageSent
from eventlog.errors import AttemptFailed
from eventlog.vocabulary import DeadLetterParked, SessionTouched
from tests.logs import conversation_in, message, messages
from tests.support import eventually
from tests.working import (
    QUICK,
    AdjustableClock,
    AstrayClock,
    Seen,
    all_handled,
    at_work,
    events,
    lease_on,
    nothing_is_left,
)

LATER = Retry(attempts=3, first_delay_s=1000, longest_delay_s=10_000, jitter=0)


@pytest.fixture
async def timed(log: EventLog) -> AsyncIterator[EventLog]:
    """The same log with a clock that can be put forward, and leases that soon lapse."""
    async with EventLog.open(
        settings=log.settings, url=log.settings.url, clock=AdjustableClock(), lease_ttl_ms=400
    ) as opened:
        yield opened


@pytest.fixture
async def astray(log: EventLog) -> AsyncIterator[EventLog]:
    """The same log with a wall clock two hours ahead, and leases that soon lapse."""
    async with EventLog.open(
        settings=log.settings, url=log.settings.url, clock=AstrayClock(), lease_ttl_ms=400
    ) as opened:
        yield opened


async def passed(log: EventLog, duration_s: float) -> None:
    """Let so much time have passed since lines were put off."""
    for partition in range(log.partition_count):
        blocked = log.keys.blocked(partition, "g")
        for conversation, due_ms in await log.client.zrange(blocked, 0, -1, withscores=True):
            await log.client.zadd(blocked, {conversation: due_ms - duration_s * 1000})


async def parked(log: EventLog) -> list[DeadLetterParked]:
    return await events(log, DeadLetterParked)


class TestAttempts:
    async def test_it_is_tried_again_then_parked_and_the_next_one_begins(self, log):
        await log.append([message("c", "bad"), message("c", "good")])
        seen, worker = Seen(), Worker(log, "g")

        @worker.on("message.received", retry=QUICK)
        async def handle(event, context):
            seen.note(event, context)
            if event.text == "bad":
                raise ValueError("no luck")

        async with at_work(worker):
            await all_handled(worker)
        assert seen.texts["c"] == ["bad", "bad", "bad", "good"]
        assert seen.attempts["bad"] == [1, 2, 3]
        [letter] = await parked(log)
        [bad, *_] = await log.read(conversation="c", limit=1)
        assert (letter.group, letter.reason, letter.attempts) == ("g", "ValueError", 3)
        assert letter.error == "ValueError: no luck"
        assert letter.origin == f"{bad.partition}/{bad.id}"
        assert (letter.text, letter.conversation, letter.causation_id) == ("bad", "c", bad.event.id)
        assert [each.attempt for each in letter.failures] == [1, 2, 3]
        assert "in handle" in letter.traceback
        await nothing_is_left(log, "g")

    async def test_a_failing_conversation_blocks_only_itself(self, log):
        await log.append([message(f"chat:{n % 20}", n) for n in range(200)])
        seen, worker = Seen(), Worker(log, "g")

        @worker.on("message.received", retry=LATER)
        async def handle(event, context):
            seen.note(event, context)
            if event.conversation == "chat:7":
                raise ValueError

        assert await worker.run_once() == 190
        assert seen.texts["chat:7"] == ["7"]
        assert (await worker.status()).blocked_count == 1
        await log.append(message("chat:7", "more"))
        assert await worker.run_once() == 0
        assert (await worker.status()).pending_count == 11

    async def test_attempts_and_due_times_survive_a_restart(self, timed):
        await timed.append([message("c", "bad"), message("c", "good")])
        seen, handlers = Seen(), Handlers()

        @handlers.on("message.received", retry=LATER)
        async def handle(event, context):
            seen.note(event, context)
            if event.text == "bad":
                raise ValueError

        for number, wait_s in enumerate((0, 999, 2, 1998, 3)):
            await passed(timed, wait_s)
            worker = Worker(timed, "g", handlers)
            async with at_work(worker):
                expected = (1, 1, 2, 2, 3)[number]
                await eventually(lambda n=expected: len(seen.attempts["bad"]) == n)
                if number == 4:
                    await all_handled(worker)
                else:
                    await eventually(lambda w=worker: _waits(w))
        assert seen.attempts["bad"] == [1, 2, 3]
        assert seen.texts["c"][-1] == "good"
        [letter] = await parked(timed)
        assert letter.attempts == 3

    async def test_a_permanent_error_parks_at_once(self, log):
        await log.append(messages("c", 2))
        seen, worker = Seen(), Worker(log, "g")

        @worker.on("message.received", retry=LATER)
        async def handle(event, context):
            seen.note(event, context)
            raise AttemptFailed("forbidden.", permanent=True)

        assert await worker.run_once() == 4  # two letters passed over
        assert [each.reason for each in await parked(log)] == ["attempt_failed"] * 2
        assert seen.texts["c"] == ["0", "1"]

    async def test_a_judge_of_ones_own(self, log):
        await log.append(message("c", "x"))
        worker = Worker(log, "g")
        retry = Retry(judge=lambda error: Verdict(permanent=isinstance(error, KeyError)))

        @worker.on("message.received", retry=retry)
        async def handle(_event, _context):
            raise KeyError

        await worker.run_once()
        assert len(await parked(log)) == 1

    async def test_a_clock_astray_at_the_failure_puts_nobody_off(self, log, astray):
        await log.append(message("c", "bad"))
        seen, handlers = Seen(), Handlers()

        @handlers.on("message.received", retry=Retry(attempts=9, first_delay_s=0.2, jitter=0))
        async def handle(event, context):
            seen.note(event, context)
            if len(seen.attempts["bad"]) == 1:
                raise ValueError

        first = Worker(astray, "g", handlers)
        await first.run_once()
        due_ms = max(each.next_due_ms or 0 for each in (await first.status()).partitions)
        seconds, _ = await log.client.time()
        assert due_ms < (seconds + 60) * 1000, "by the server's clock"
        async with at_work(Worker(log, "g", handlers)):
            await eventually(lambda: seen.attempts["bad"] == [1, 2])

    async def test_who_takes_over_waits_as_long_as_was_to_be_waited(self, log):
        chat = conversation_in(log, 2)
        await register(log, "g")
        await log.append([message(chat, "bad"), message(chat, "next")])
        await log.append(message(conversation_in(log, 3), "elsewhere"))
        dead = await lease_on(log, "g", 2)
        bad, _ = await dead.fetch(2)
        settlement = Settlement(1)
        settlement.line_up(chat, front=[bad.id], wait_ms=600_000)
        dead.hand.pop(bad.id)
        await dead.settle(settlement)  # and dies with the next one in hand
        await log.client.hset(log.keys.lease(2, "g"), "expires_ms", "0")
        seen, worker = Seen(), Worker(log, "g")
        worker.on("message.received")(seen)
        async with at_work(worker):
            await eventually(lambda: seen.count == 1)
            await eventually(lambda: _waits(worker))
        assert list(seen.texts) == [conversation_in(log, 3)]

    async def test_a_clock_put_right_meanwhile_puts_nobody_off(self, astray):
        await astray.append(message("c", "bad"))
        seen, worker = Seen(), Worker(astray, "g")

        @worker.on("message.received", retry=Retry(attempts=9, first_delay_s=0.2, jitter=0))
        async def handle(event, context):
            seen.note(event, context)
            if len(seen.attempts["bad"]) == 1:
                raise ValueError

        async with at_work(worker):
            await eventually(lambda: seen.attempts["bad"] == [1])
            astray.clock.ahead_s = 0.0
            await eventually(lambda: seen.attempts["bad"] == [1, 2])

    async def test_what_the_platform_asks_for_is_waited_for(self, timed):
        await timed.append(message("c", "x"))
        seen, worker = Seen(), Worker(timed, "g")

        @worker.on("message.received", retry=QUICK)
        async def handle(event, context):
            seen.note(event, context)
            if event.text == "x" and context.attempt == 1:
                raise AttemptFailed("too many.", retry_after_s=500)

        async with at_work(worker):
            await eventually(lambda: _waits(worker))
            before_us = timed.clock.now_us()
            timed.clock.put_forward(498)
            await timed.append(message("other", "y"))
            await eventually(lambda: seen.count == 2)
            assert seen.attempts == {"x": [1], "y": [1]}
            timed.clock.put_forward(2)
            await all_handled(worker)
        assert seen.attempts["x"] == [1, 2]
        assert timed.clock.now_us() - before_us >= 499_000_000

    async def test_what_a_handler_records_of_its_failures(self, log):
        chat = conversation_in(log, 0)
        await log.append(message(chat, "x"))
        worker = Worker(log, "g")

        def record(failure):
            yield BridgeEvent(
                conversation=chat,
                event_type="failed",
                data={"attempt": failure.context.attempt, "last": failure.is_last},
            )

        @worker.on("message.received", retry=QUICK, record=record)
        async def handle(_event, context):
            context.append(MessageSent(conversation=chat, text="never"))
            raise ValueError

        async with at_work(worker):
            await all_handled(worker)
        recorded = [each.data for each in await events(log, BridgeEvent)]
        assert recorded == [
            {"attempt": 1, "last": False},
            {"attempt": 2, "last": False},
            {"attempt": 3, "last": True},
        ]
        assert await events(log, MessageSent) == []

    async def test_what_is_recorded_of_a_conflict_goes_where_it_belongs(self, log):
        here, there = conversation_in(log, 0), conversation_in(log, 1)
        await log.append(message(here, "x"))
        worker = Worker(log, "g")

        def record(_failure):
            yield BridgeEvent(conversation=there, event_type="failed")

        @worker.on("message.received", retry=Retry(attempts=1), record=record)
        async def handle(_event, context):
            context.append(SessionTouched(conversation=here, session="s"), expected_version=9)

        await worker.run_once()
        assert len(await parked(log)) == 1
        assert len(await log.read(conversation=there, limit=10)) == 1
        partitions = [
            partition
            for partition in range(4)
            for raw in await log.read_raw(partition, START, 100)
            if b"bridge.event" in raw.raw
        ]
        assert partitions == [1]


async def _waits(worker: Worker) -> bool:
    """Return whether all that is left waits for another attempt."""
    status = await worker.status()
    return status.blocked_count > 0 and all(
        each.is_quiet and each.delivered == each.head for each in status.partitions
    )


class TestTimeOuts:
    async def test_an_async_handler_is_called_off(self, log):
        await log.append([message("c", "slow"), message("c", "next")])
        seen, ended, worker = Seen(), [], Worker(log, "g")

        @worker.on("message.received", timeout_s=0.05, retry=Retry(attempts=2, first_delay_s=0))
        async def handle(event, context):
            seen.note(event, context)
            try:
                if event.text == "slow":
                    await asyncio.Event().wait()
            finally:
                ended.append(event.text)

        async with at_work(worker):
            await all_handled(worker)
        assert ended == ["slow", "slow", "next"]
        [letter] = await parked(log)
        assert (letter.reason, letter.attempts) == ("timeout", 2)
        assert "within 0.05 s" in letter.error

    async def test_a_plain_handler_is_left_behind_with_what_it_still_does(self, log):
        await log.append([message("c", "slow"), message("c", "next")])
        seen, released, late = Seen(), threading.Event(), []
        worker = Worker(log, "g")

        @worker.on("message.received", timeout_s=0.05, retry=Retry(attempts=1))
        def handle(event, context):
            seen.note(event, context)
            if event.text == "slow":
                assert released.wait(10)
            context.append(MessageSent(conversation="c", text=event.text))
            late.append(event.text)

        async with at_work(worker):
            await all_handled(worker)
            released.set()
            await eventually(lambda: "slow" in late)
        assert [each.text for each in await events(log, MessageSent)] == ["next"]
        assert [each.reason for each in await parked(log)] == ["timeout"]
