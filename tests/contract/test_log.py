"""A log open, closed and cancelled, on the in-memory store and on a real server alike (`any_log`)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from eventlog import (
    START,
    AppendResult,
    EventLog,
)
from eventlog.errors import (
    LogNotOpen,
)
from tests.logs import all_texts, assert_gapless, message
from tests.support import eventually, turns


class TestOpenAndClosed:
    CALLS: tuple[Callable[[EventLog], Awaitable[object]], ...] = (
        lambda log: log.append(message("c")),
        lambda log: log.append([]),
        lambda log: log.read(conversation="c"),
        lambda log: log.read(partition=0),
        lambda log: log.read_raw(0, START, 1),
        lambda log: log.heads(),
        lambda log: log.tail(),
        lambda log: log.tail("start"),
        lambda log: log.producer("p"),
    )

    async def test_use_before_open(self):
        log = EventLog.in_memory()
        for call in self.CALLS:
            with pytest.raises(LogNotOpen, match="async with"):
                await call(log)
        for use in (lambda: log.client, lambda: log.partition_of("c")):
            with pytest.raises(LogNotOpen):
                use()
        assert await log.ping() is False
        await log.close()

    async def test_use_after_close(self, any_log):
        producer = await any_log.producer("p")
        assert await any_log.ping() is True
        await any_log.close()
        await any_log.close()
        for call in self.CALLS:
            with pytest.raises(LogNotOpen):
                await call(any_log)
        with pytest.raises(LogNotOpen):
            await producer.append([(1, message("c"))])
        assert await any_log.ping() is False

    async def test_close_answers_what_is_queued(self, any_log):
        appends = [asyncio.create_task(any_log.append(message("c", n))) for n in range(100)]
        await turns()
        await any_log.close()
        results = await asyncio.gather(*appends)
        assert [r.sequence for r in results] == list(range(1, 101))

    async def test_opening_twice_warns_and_changes_nothing(self, any_log, caplog):
        await any_log.append(message("c"))
        assert await any_log is any_log
        assert "already_open" in caplog.text
        assert await assert_gapless(any_log) == 1


class TestCancellation:
    async def test_sending_again_is_safe_whatever_became_of_it(self, any_log):
        events = [message(f"chat:{n % 3}", n) for n in range(60)]
        for count in range(8):
            append = asyncio.create_task(any_log.append(events[: 10 * count]))
            await turns(count)
            append.cancel()
            await asyncio.wait([append])
        results = await any_log.append(events)
        assert len({(r.partition, r.id) for r in results}) == 60
        assert await assert_gapless(any_log) == 60

    async def test_others_are_not_cancelled_with_it(self, any_log):
        appends = [asyncio.create_task(any_log.append(message("c", n))) for n in range(20)]
        await turns()
        for n in (0, 7, 19):
            appends[n].cancel()
        outcomes = await asyncio.gather(*appends, return_exceptions=True)
        for n, outcome in enumerate(outcomes):
            expected = asyncio.CancelledError if n in (0, 7, 19) else AppendResult
            assert isinstance(outcome, expected)
        await eventually(any_log.ping)
        texts = await all_texts(any_log, "c")
        assert [t for t in texts if int(t) not in (0, 7, 19)] == [
            str(n) for n in range(20) if n not in (0, 7, 19)
        ]

    async def test_a_cancelled_tail_goes_on_where_it_was(self, any_log):
        tail = await any_log.tail()
        waiting = asyncio.create_task(anext(tail))
        await turns()
        waiting.cancel()
        await asyncio.wait([waiting])
        await any_log.append(message("c", "first"))
        assert (await anext(tail)).event.text == "first"
