"""Time limits of handlers: one timer for all."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from consumers.calling import AttemptTimedOut, call
from consumers.context import Context
from consumers.handler import Handler
from consumers.retry import Retry
from consumers.time_limit import TimeLimits
from eventlog.errors import AttemptFailed
from tests.support import turns


class NoContext:
    event = None


CONTEXT = cast("Context", NoContext())


def handler(function: Any, timeout_s: float = 60) -> Handler:
    return Handler(function, is_async=True, timeout_s=timeout_s, retry=Retry())


async def forever(_event, _context):
    await asyncio.Event().wait()


async def test_what_ends_in_time_is_left_alone():
    limits = TimeLimits()

    async def soon(_event, _context):
        await turns(3)

    for _ in range(3):
        await call(handler(soon), CONTEXT, limits)
    assert limits._deadlines_s == {}


async def test_what_takes_longer_is_called_off_each_at_its_time():
    limits = TimeLimits()
    ended: list[float] = []

    async def timed(timeout_s: float) -> None:
        with pytest.raises(AttemptTimedOut, match=f"within {timeout_s:g} s"):
            await call(handler(forever, timeout_s), CONTEXT, limits)
        ended.append(timeout_s)

    await asyncio.gather(*(timed(timeout_s) for timeout_s in (0.06, 0.02, 0.04)))
    assert ended == [0.02, 0.04, 0.06]
    assert limits._deadlines_s == {}


async def test_the_task_goes_on_with_its_next_entry():
    limits = TimeLimits()
    with pytest.raises(AttemptTimedOut):
        await call(handler(forever, 0.01), CONTEXT, limits)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await turns(3)


async def test_a_handler_that_does_not_mind_being_called_off_has_failed_all_the_same():
    limits = TimeLimits()

    async def stubborn(_event, _context):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return

    with pytest.raises(AttemptTimedOut):
        await call(handler(stubborn, 0.01), CONTEXT, limits)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_cancellation_from_outside_is_one():
    task = asyncio.create_task(call(handler(forever), CONTEXT, TimeLimits()))
    await turns()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancellation_from_outside_counts_though_the_time_is_over_as_well():
    limits = TimeLimits()
    task = asyncio.create_task(call(handler(forever), CONTEXT, limits))
    await turns()
    limits._deadlines_s[task] = 0
    limits._look(asyncio.get_running_loop())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_handler_that_cancels_itself_has_failed():
    async def gives_up(_event, _context):
        raise asyncio.CancelledError

    with pytest.raises(AttemptFailed, match="by the program itself"):
        await call(handler(gives_up), CONTEXT, TimeLimits())
