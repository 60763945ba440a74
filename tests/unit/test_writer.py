"""The lanes, with stores that misbehave as a server cannot be made to."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from eventlog.batch import Appended, Batch, Outcome
from eventlog.errors import LogNotOpen, LogUnavailable
from eventlog.settings import Durability
from eventlog.writer import Writer
from tests.support import turns


class Gate:
    """Notes the batches, and answers when `opened` is set, with `error` where there is one."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.batches: list[Batch] = []
        self.opened = asyncio.Event()
        self.error = error
        self._n = 0

    async def append(self, partition: int, batch: Batch, durability: Durability) -> Outcome:  # noqa: ARG002 - the protocol's
        self.batches.append(batch)
        await self.opened.wait()
        error, self.error = self.error, None
        if error:
            raise error
        self._n += len(batch.events)
        return Appended(1, self._n - len(batch.events) + 1, len(batch.events), {}, {})


def started(writer: Writer, *names: str) -> list[asyncio.Task[Any]]:
    async def append(name: str) -> Any:
        return await writer.append(0, Batch(["{}"], [name], []), "memory")

    return [asyncio.create_task(append(name)) for name in names]


def sequences(outcomes: list[Any]) -> list[int]:
    return [result.sequence for [result] in outcomes]


async def test_what_comes_while_a_batch_travels_leaves_as_the_next():
    gate = Gate()
    writer = Writer(gate, 1)  # type: ignore[arg-type]
    tasks = started(writer, "a")
    await turns(2)
    tasks += started(writer, "b", "c", "d")
    await turns(2)
    assert [batch.ids for batch in gate.batches] == [["a"]]
    gate.opened.set()
    assert sequences(await asyncio.gather(*tasks)) == [1, 2, 3, 4]
    assert [batch.ids for batch in gate.batches] == [["a"], ["b", "c", "d"]]


@pytest.mark.parametrize("error", [LogUnavailable("away."), AssertionError("a bug")])
async def test_after_a_failure_the_lane_goes_on(error):
    gate = Gate(error)
    gate.opened.set()
    writer = Writer(gate, 1)  # type: ignore[arg-type]
    [failed] = await asyncio.gather(*started(writer, "a"), return_exceptions=True)
    assert failed is error
    assert sequences(await asyncio.gather(*started(writer, "a"))) == [1]


@pytest.mark.parametrize("moment", range(6))
async def test_a_lane_that_is_cancelled_leaves_nobody_waiting(moment):
    gate = Gate()
    writer = Writer(gate, 1)  # type: ignore[arg-type]
    tasks = started(writer, "a")
    await turns(2)
    tasks += started(writer, "b", "b", "b")  # one id: a batch for each
    await turns(2)
    lane = writer._lanes[0]._task
    assert lane is not None
    if moment:
        gate.opened.set()
        await turns(moment - 1)
    lane.cancel()
    outcomes = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
    answered = [outcome for outcome in outcomes if not isinstance(outcome, LogNotOpen)]
    assert sequences(answered) == list(range(1, len(answered) + 1))
    assert moment or not answered


async def test_a_closed_writer_takes_nothing_more():
    gate = Gate()
    writer = Writer(gate, 1)  # type: ignore[arg-type]
    tasks = started(writer, "a", "b")
    await turns(2)
    closing = asyncio.create_task(writer.close())
    await turns(2)
    [refused] = await asyncio.gather(*started(writer, "c"), return_exceptions=True)
    assert isinstance(refused, LogNotOpen)
    assert not closing.done()
    gate.opened.set()
    await closing
    assert sequences(await asyncio.gather(*tasks)) == [1, 2]
