"""One log in several event loops, several logs in several threads."""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from eventlog import EventLog
from eventlog.errors import LogNotOpen, WrongEventLoop
from tests.logs import all_texts, message, messages
from tests.support import RawServer, eventually

_numbers = itertools.count(1)

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def closed_at_once(work: Coroutine[Any, Any, Any]) -> Any:
    """Run it in a loop that is closed without the care that `asyncio.run` takes."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.close()


@pytest.fixture(params=[asyncio.run, closed_at_once])
def run(request: pytest.FixtureRequest) -> Run:
    found: Run = request.param
    return found


@pytest.fixture(params=["memory", "server"])
def made(request: pytest.FixtureRequest, server_url: str) -> EventLog:
    if request.param == "memory":
        return EventLog.in_memory(partition_count=3)
    prefix = f"loops{next(_numbers)}"
    return EventLog.open(server_url, key_prefix=prefix, partition_count=3)


class TestOneAfterAnother:
    def test_it_goes_on_in_the_next_loop(self, made: EventLog, run: Run):
        async def first() -> None:
            await made
            await asyncio.gather(*(made.append(message("c", n)) for n in range(5)))

        async def next_one(number: int) -> None:
            result = await made.append(message("c", number))
            assert result.sequence == number + 1
            assert await all_texts(made, "c") == [str(n) for n in range(number + 1)]
            tail = await made.tail("start")
            assert (await anext(tail)).sequence == 1
            assert await made.ping() is True

        run(first())
        for number in range(5, 9):
            run(next_one(number))
        gc.collect()  # an unclosed socket would warn here, and warnings are errors
        run(made.close())
        gc.collect()

    def test_what_was_under_way_is_not_the_next_loop_s_concern(self, made: EventLog):
        async def first() -> None:
            await made
            for n in range(50):
                asyncio.create_task(made.append(message("c", n)))  # noqa: RUF006 - left alone
            asyncio.create_task(anext(await made.tail()))  # noqa: RUF006
            await asyncio.sleep(0)

        async def second() -> None:
            await made.append(message("d", "x"))
            assert await all_texts(made, "d") == ["x"]
            texts = await all_texts(made, "c")
            assert texts == [str(n) for n in range(len(texts))]
            await made.close()

        asyncio.run(first())
        asyncio.run(second())
        gc.collect()

    def test_a_tail_or_producer_of_the_old_loop_says_so(self, server_url: str):
        log = EventLog.open(server_url, key_prefix=f"loops{next(_numbers)}")

        async def first() -> Any:
            await log
            return await log.tail("start"), await log.producer("p")

        tail, producer = asyncio.run(first())

        async def second() -> None:
            await log.append(message("c", 1))
            with pytest.raises(LogNotOpen):
                await anext(tail)
            with pytest.raises(LogNotOpen):
                await producer.append([(1, message("c", 2))])
            await log.close()

        asyncio.run(second())

    def test_with_a_spool(self, tmp_path, run: Run):
        with RawServer(tmp_path, appendonly="yes", appendfsync="always") as server:
            log = EventLog.open(
                server.url, spool_dir=str(tmp_path / "spool"), max_retries=0, partition_count=2
            )

            async def spooled(number: int) -> None:
                assert (await log.append(message("c", number))).is_spooled

            async def back() -> None:
                await log.append(message("c", 3))
                await eventually(lambda: not log.is_degraded)
                assert await all_texts(log, "c") == ["0", "1", "2", "3"]
                await log.close()

            async def first() -> None:
                await log
                server.kill()
                await spooled(0)

            run(first())
            run(spooled(1))
            run(spooled(2))
            server.start()
            run(back())
            assert list((tmp_path / "spool").iterdir()) == []

    def test_opened_while_away_and_first_reached_in_another(self, tmp_path):
        server = RawServer(tmp_path)
        log = EventLog.open(server.url, spool_dir=str(tmp_path / "spool"), partition_count=2)

        async def first() -> None:
            await log
            assert (await log.append(message("c", 0))).is_spooled

        async def second() -> None:
            await eventually(lambda: not log.is_degraded)
            assert await all_texts(log, "c") == ["0"]
            await log.close()

        asyncio.run(first())
        with server:
            asyncio.run(second())

    async def test_closed_in_another_loop(self, server_url: str):
        log = EventLog.open(server_url, key_prefix=f"loops{next(_numbers)}")

        async def first() -> None:
            await log
            await log.append(message("c", 0))

        await asyncio.to_thread(asyncio.run, first())
        await log.close()
        await log.close()
        with pytest.raises(LogNotOpen):
            await log.append(message("c", 1))
        gc.collect()


class TestAtOnce:
    async def test_a_second_loop_is_told_what_to_do(self, made: EventLog):
        await made
        await made.append(message("c", 0))

        async def elsewhere() -> None:
            assert await made.ping() is False
            for call in (
                lambda: made.append(message("c", 1)),
                lambda: made.read(partition=0),
                made.tail,
                made.close,
                made.__aenter__,
            ):
                with pytest.raises(WrongEventLoop, match="one log per event loop") as caught:
                    await call()
                assert caught.value.code == "wrong_event_loop"

        await asyncio.to_thread(asyncio.run, elsewhere())
        assert (await made.append(message("c", 1))).sequence == 2
        await made.close()

    def test_a_log_per_thread(self, server_url: str):
        prefix = f"loops{next(_numbers)}"
        together = threading.Barrier(4)

        async def bot(number: int) -> None:
            async with EventLog.open(server_url, key_prefix=prefix, partition_count=2) as log:
                await asyncio.to_thread(together.wait, 10)
                await log.append(messages(f"chat:{number}", 20))
                assert await all_texts(log, f"chat:{number}") == [str(n) for n in range(20)]

        with ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(asyncio.run, bot(number)) for number in range(4)]:
                done.result(20)
