"""Errors of any kind, judges and functions that are not what they should be: the worker goes on."""

from __future__ import annotations

import pytest

from consumers import Retry, Worker
from eventlog import EventLog
from eventlog.errors import AttemptFailed
from eventlog.vocabulary import DeadLetterParked
from tests.logs import message
from tests.working import (
    Seen,
    all_handled,
    at_work,
    events,
)


async def parked(log: EventLog) -> list[DeadLetterParked]:
    return await events(log, DeadLetterParked)


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class TestErrorsOfAnyKind:
    @pytest.mark.parametrize(
        "error",
        [
            Unspeakable(),
            ValueError("\ud800"),
            ValueError("x" * 1_000_000),
            AttemptFailed("later", retry_after_s=float("inf")),
            AttemptFailed("later", retry_after_s=float("nan")),
            AttemptFailed("later", retry_after_s=-5),
            ExceptionGroup("two", [ValueError(), KeyError()]),
            StopIteration(),
            StopAsyncIteration(),
            TimeoutError(),
        ],
        ids=lambda error: f"{type(error).__name__}",
    )
    @pytest.mark.parametrize("is_async", [True, False], ids=["async", "plain"])
    async def test_the_attempt_fails_and_nothing_else(self, log, error, is_async):
        await log.append([message("bad", "x"), message("good", "y")])
        seen, worker = Seen(), Worker(log, "g")

        def handle(event, context):
            seen.note(event, context)
            if event.conversation == "bad":
                raise error

        async def handle_async(event, context):
            handle(event, context)

        worker.on("message.received", retry=Retry(attempts=1), timeout_s=2)(
            handle_async if is_async else handle
        )
        async with at_work(worker):
            await all_handled(worker, 3)
        assert seen.attempts == {"x": [1], "y": [1]}
        [letter] = await parked(log)
        assert letter.reason != "timeout"

    @pytest.mark.parametrize("verdict", [None, True, "fatal"])
    async def test_a_judge_that_gives_no_verdict(self, log, verdict):
        await log.append(message("c", "x"))
        worker = Worker(log, "g")

        @worker.on("message.received", retry=Retry(attempts=1, judge=lambda _: verdict))
        async def handle(_event, _context):
            raise ValueError

        async with at_work(worker):
            await all_handled(worker, 3)
        assert len(await parked(log)) == 1

    async def test_a_plain_function_that_returns_a_coroutine_is_not_handled_by_it(self, log):
        await log.append(message("c", "x"))
        seen, worker = Seen(), Worker(log, "g")
        worker.on("message.received", retry=Retry(attempts=1))(lambda e, c: seen(e, c))
        async with at_work(worker):
            await all_handled(worker, 3)
        assert seen.count == 1 or len(await parked(log)) == 1
