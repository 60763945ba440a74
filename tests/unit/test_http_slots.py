"""Slots: how many run at once, who waits, who is sent away."""

from __future__ import annotations

import asyncio

import pytest

from service.http.refusal import Refusal
from service.http.slots import Slots
from tests.support import turns


async def test_who_comes_beyond_waits_in_turn_and_the_rest_is_sent_away():
    slots, order, gates = Slots(1, waiting_count=2, wait_s=10), [], [asyncio.Event() for _ in "abc"]

    async def work(number: int) -> None:
        async with slots:
            order.append(number)
            await gates[number].wait()

    tasks = [asyncio.create_task(work(number)) for number in range(3)]
    await turns(2)
    assert order == [0]
    with pytest.raises(Refusal, match="as much to do"):
        await work(0)
    for number in range(3):
        gates[number].set()
        await tasks[number]
    assert (order, slots.free_count) == ([0, 1, 2], 1)


async def test_who_waits_too_long_or_goes_takes_no_place():
    slots = Slots(1, waiting_count=5, wait_s=0.01)
    async with slots:
        with pytest.raises(Refusal):
            await slots.__aenter__()
        waiting = asyncio.create_task(slots.__aenter__())
        await turns()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert slots.free_count == 1
    async with slots:
        assert slots.free_count == 0
