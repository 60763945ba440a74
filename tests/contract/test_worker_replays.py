"""Dead letters tried again by their group's workers, on request."""

from __future__ import annotations

import asyncio

import pytest

from consumers import Worker
from consumers.dead_letters import persist_failed_delivery, request_replay
from consumers.delivery import DeliveryHandlers
from consumers.senders.sender import Delivery, Receipt
from eventlog import MessageQueued, MessageSent, SessionTouched
from eventlog.vocabulary import (
    DeadLetterParked,
    DeadLetterReplayRequested,
    DeadLetterResolved,
)
from projections.views.dead_letters import DeadLetters
from tests.logs import message
from tests.replays import Mendable, letters, parked, worker_of
from tests.support import eventually
from tests.working import QUICK, Seen, at_work, events, killed_at_the_end, nothing_is_left


@pytest.fixture
def handle() -> Mendable:
    return Mendable()


class TestSuccess:
    async def test_the_letter_is_resolved_with_the_handler_s_results(self, log, handle):
        [letter] = await parked(log, handle, "x")
        handle.is_mended = True
        await request_replay(log, [letter])
        await worker_of(log, handle).run_once()
        assert handle.attempts["x"] == [1, 2]
        [resolved] = await events(log, DeadLetterResolved)
        assert (resolved.letter, resolved.group) == (letter.letter, "g")
        assert [each.text for each in await events(log, MessageSent)] == ["re x"]
        assert await letters(log) == []
        assert (await DeadLetters(log).get(letter.letter)).status == "resolved"
        await nothing_is_left(log, "g")

    async def test_only_its_own_group_tries_it(self, log, handle):
        letters_of_g = await parked(log, handle, "x")
        other = Seen()
        await worker_of(log, other, "other").run_once()
        handle.is_mended = True
        await request_replay(log, letters_of_g)
        await worker_of(log, other, "other").run_once()
        assert await letters(log) != []
        await worker_of(log, handle).run_once()
        assert other.attempts["x"] == [1]
        assert await letters(log) == []

    async def test_many_in_the_order_of_their_conversation(self, log, handle):
        found = await parked(log, handle, *map(str, range(20)))
        handle.is_mended = True
        handle.texts.clear()
        await request_replay(log, found[::-1])
        await worker_of(log, handle).run_once()
        assert handle.texts["c"] == [str(n) for n in range(20)]

    async def test_what_is_new_meanwhile_keeps_its_place(self, log, handle):
        found = await parked(log, handle, "old")
        handle.is_mended = True
        handle.texts.clear()
        await log.append(message("c", "new 1"))
        await request_replay(log, found)
        await log.append(message("c", "new 2"))
        await worker_of(log, handle).run_once()
        assert handle.texts["c"] == ["new 1", "old", "new 2"]

    async def test_two_requests_run_once(self, log, handle):
        [letter] = await parked(log, handle, "x")
        handle.is_mended = True
        outcomes = await asyncio.gather(*(request_replay(log, [letter]) for _ in range(5)))
        assert {each.status for [each] in outcomes} <= {"requested", "changed"}
        await worker_of(log, handle).run_once()
        assert handle.attempts["x"] == [1, 2]

    async def test_one_that_is_no_longer_true_is_passed_over(self, log, handle):
        [letter] = await parked(log, handle, "x")
        handle.is_mended = True
        await request_replay(log, [letter])
        await log.append(
            DeadLetterResolved(conversation="c", letter=letter.letter, group="g"),
            expected_version=letter.version + 1,
        )
        await worker_of(log, handle).run_once()
        assert handle.attempts["x"] == [1]
        assert len(await events(log, DeadLetterResolved)) == 1

    async def test_one_that_a_caller_runs_itself_is_not_for_workers(self, log, handle):
        [letter] = await parked(log, handle, "x")
        await log.append(
            DeadLetterReplayRequested(
                conversation="c", letter=letter.letter, group="g", version=letter.version + 1,
                origin=letter.origin, runner="me",
            ),
            expected_version=letter.version,
        )  # fmt: skip
        await worker_of(log, handle).run_once()
        assert handle.attempts["x"] == [1]

    async def test_a_letter_with_the_longest_name(self, log):
        await persist_failed_delivery(log, conversation="c", text="hello", letter="l" * 512)
        sent = []

        class Sender:
            async def send(self, message: MessageQueued, delivery: Delivery) -> Receipt:
                sent.append((message.text, delivery.idempotency_key))
                return Receipt("7")

            async def close(self) -> None:
                pass

        await request_replay(log, await letters(log, "delivery"))
        await Worker(log, "delivery", DeliveryHandlers({"c": Sender()})).run_once()
        assert sent == [("hello", "l" * 512)]
        assert await letters(log, "delivery") == []


class TestFailure:
    async def test_it_is_parked_again_with_its_attempts_counted_on(self, log, handle):
        [letter] = await parked(log, handle, "x")
        for attempt in (2, 3):
            await request_replay(log, [letter])
            await worker_of(log, handle).run_once()
            [letter] = await letters(log)
            assert (letter.status, letter.attempts) == ("parked", attempt)
        assert handle.attempts["x"] == [1, 2, 3]
        assert len({each.letter for each in await events(log, DeadLetterParked)}) == 1
        await nothing_is_left(log, "g")

    async def test_its_conversation_waits_while_it_is_tried(self, log, handle):
        found = await parked(log, handle, "x")
        await request_replay(log, found)
        await log.append(message("c", "next"))
        handle.texts.clear()
        worker = Worker(log, "g")
        worker.on("message.received", retry=QUICK)(handle)

        async def both_are_parked() -> bool:
            return [each.attempts for each in await letters(log)] == [4, 3]

        async with at_work(worker):
            await eventually(both_are_parked)
        assert handle.texts["c"] == ["x"] * 3 + ["next"] * 3

    async def test_a_conflict_of_the_handler_s_own_is_a_failure_of_the_replay(self, log, handle):
        found = await parked(log, handle, "x")
        await request_replay(log, found)

        async def conflicting(_event, context):
            context.append(SessionTouched(conversation="c", session="s"), expected_version=9)

        await worker_of(log, conflicting).run_once()
        [letter] = await letters(log)
        assert (letter.status, letter.attempts, letter.reason) == ("parked", 2, "version_conflict")

    async def test_the_letter_s_version_counts_beside_the_handler_s_own(self, log, handle):
        [letter] = await parked(log, handle, "x")
        await request_replay(log, [letter])

        async def overtaken(_event, context):
            await log.append(
                DeadLetterResolved(conversation="c", letter=letter.letter, group="g"),
                expected_version=letter.version + 1,
            )
            context.append(SessionTouched(conversation="c", session="s"), expected_version=0)

        await worker_of(log, overtaken).run_once()
        assert len(await events(log, DeadLetterResolved)) == 1

    async def test_one_that_is_overtaken_leaves_no_result(self, log, handle):
        [letter] = await parked(log, handle, "x")
        await request_replay(log, [letter])

        async def overtaken(_event, context):
            await log.append(
                DeadLetterResolved(conversation="c", letter=letter.letter, group="g"),
                expected_version=letter.version + 1,
            )
            context.append(MessageSent(conversation="c", text="twice"))

        await worker_of(log, overtaken).run_once()
        assert await events(log, MessageSent) == []
        assert len(await events(log, DeadLetterResolved)) == 1

    async def test_one_that_kills_its_process_is_parked_again(self, log, handle):
        found = await parked(log, handle, "x")
        await request_replay(log, found)
        for _ in range(4):
            begun = []

            async def hang(_event, _context, begun=begun):
                begun.append(1)
                await asyncio.Event().wait()

            async with killed_at_the_end(worker_of(log, hang)):
                await eventually(lambda begun=begun: begun)
        await worker_of(log, handle).run_once()
        [letter] = await letters(log)
        assert (letter.status, letter.reason) == ("parked", "worker_died")
        assert handle.attempts["x"] == [1]
