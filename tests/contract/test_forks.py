"""Children of `fork` use what their parent opened, and leave the parent's own alone."""

from __future__ import annotations

import asyncio
import gc
import itertools
import multiprocessing
import os
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from eventlog import BlockingEventLog, EventLog
from eventlog.embedded import EmbeddedServer
from eventlog.settings import Settings
from tests.logs import all_texts, message
from tests.support import RawServer, eventually

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
_numbers = itertools.count(1)


def in_child(work: Callable[[], Any], *, by_hand: bool = False) -> None:
    """Run it in a forked child, which must end well and in time."""

    def reported() -> None:
        try:
            work()
            gc.collect()
        except BaseException:
            traceback.print_exc()
            raise

    if not by_hand:
        child = multiprocessing.get_context("fork").Process(target=reported)
        child.start()
        child.join(20)
        assert child.exitcode == 0
        child.close()
        return
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            reported()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def in_loop(work: Callable[[], Coroutine[Any, Any, Any]]) -> Callable[[], None]:
    return lambda: asyncio.run(work())


@pytest.mark.parametrize("by_hand", [True, False])
async def test_a_child_of_a_running_loop(server_url: str, by_hand: bool):
    prefix = f"forks{next(_numbers)}"
    async with EventLog.open(server_url, key_prefix=prefix, partition_count=2) as log:
        await log.append(message("c", "before"))
        tail = await log.tail()
        waiting = asyncio.create_task(anext(tail))
        await asyncio.sleep(0)
        appending = asyncio.create_task(log.append(message("d", "under way")))
        await asyncio.sleep(0)

        async def child() -> None:
            for number in range(20):
                await log.append(message("c", number))
            assert (await all_texts(log, "c"))[0] == "before"
            await log.close()

        in_child(in_loop(child), by_hand=by_hand)
        await asyncio.wait_for(appending, 5)
        assert (await asyncio.wait_for(waiting, 5)).event.text in ("under way", "0")  # type: ignore[attr-defined]
        await log.append(message("c", "after"))
        assert await all_texts(log, "c") == ["before", *map(str, range(20)), "after"]


async def test_a_child_that_never_uses_it(server_url: str):
    async with EventLog.open(server_url, key_prefix=f"forks{next(_numbers)}") as log:
        await log.append(message("c", 0))
        in_child(lambda: None)
        in_child(in_loop(log.close))
        assert (await log.append(message("c", 1))).sequence == 2


def test_the_embedded_server_is_shared_and_outlives_the_child(tmp_path: Path):
    embedded = EmbeddedServer(Settings(data_dir=str(tmp_path)))
    log = EventLog.open(data_dir=str(tmp_path), partition_count=1)

    async def parent() -> None:
        await log
        await log.append(message("c", "parent"))

        async def child() -> None:
            await log.append(message("c", "child"))
            await log.close()

        in_child(in_loop(child))
        pid = embedded.pid
        assert pid
        assert (await log.append(message("c", "parent again"))).sequence == 3
        await log.close()
        assert embedded.pid is None, "the last one has gone"

    asyncio.run(parent())


def test_the_embedded_server_outlives_the_parent_s_use(tmp_path: Path):
    embedded = EmbeddedServer(Settings(data_dir=str(tmp_path)))
    ours, theirs = multiprocessing.Pipe()

    async def parent() -> None:
        log = EventLog.open(data_dir=str(tmp_path), partition_count=1)
        await log
        await log.append(message("c", "parent"))

        async def child() -> None:
            await log.append(message("c", "child"))
            theirs.send(embedded.pid)
            theirs.recv()  # until the parent has closed
            assert (await log.append(message("c", "child again"))).sequence == 3
            assert embedded.pid
            theirs.send(embedded.pid)
            await log.close()

        running = multiprocessing.get_context("fork").Process(target=in_loop(child))
        running.start()
        first_pid = await asyncio.to_thread(ours.recv)
        await log.close()
        ours.send("go on")
        assert await asyncio.to_thread(ours.recv) == first_pid
        await asyncio.to_thread(running.join, 20)
        assert running.exitcode == 0
        running.close()
        assert embedded.pid is None

    asyncio.run(parent())
    ours.close()
    theirs.close()


def test_a_blocking_log_starts_its_thread_again(server_url: str):
    prefix = f"forks{next(_numbers)}"
    with BlockingEventLog.open(server_url, key_prefix=prefix, partition_count=1) as log:
        log.append(message("c", "parent"))

        def child() -> None:
            assert log.append(message("c", "child")).sequence == 2
            assert [e.event.text for e in log.read(conversation="c")] == ["parent", "child"]  # type: ignore[attr-defined]
            in_child(lambda: log.append(message("c", "grandchild")), by_hand=True)
            assert log.ping()
            log.close()

        in_child(child)
        in_child(child_that_only_closes(log), by_hand=True)
        assert log.append(message("c", "parent again")).sequence == 4


def child_that_only_closes(log: BlockingEventLog) -> Callable[[], None]:
    def close() -> None:
        log.close()
        log.close()
        assert log.ping() is False

    return close


async def test_each_process_has_its_own_spool(tmp_path: Path):
    with RawServer(tmp_path, appendonly="yes", appendfsync="always") as server:
        spool_dir = tmp_path / "spool"
        async with EventLog.open(
            server.url, spool_dir=str(spool_dir), max_retries=0, partition_count=2
        ) as log:
            server.kill()
            await log.append(message("parent", 0))

            async def child() -> None:
                for number in range(5):
                    assert (await log.append(message("child", number))).is_spooled
                assert len(list(spool_dir.iterdir())) == 2
                os._exit(0)  # without closing: its spool is left to whoever comes

            in_child(in_loop(child), by_hand=True)
            await log.append(message("parent", 1))
            server.start()
            await eventually(lambda: not log.is_degraded)
            assert await all_texts(log, "parent") == ["0", "1"]
        async with EventLog.open(server.url, spool_dir=str(spool_dir)) as log:
            assert await all_texts(log, "child") == [str(n) for n in range(5)]
        assert list(spool_dir.iterdir()) == []


async def test_a_child_that_lives_on_does_not_keep_its_parent_s_spool_locked(tmp_path: Path):
    server = RawServer(tmp_path)
    opened = {"spool_dir": str(tmp_path / "spool"), "partition_count": 1, "max_retries": 0}
    go_on, told = multiprocessing.Pipe()

    async def parent() -> None:
        log = EventLog.open(server.url, **opened)
        await log
        await log.append(message("c", "spooled"))
        if os.fork() == 0:
            told.recv()  # lives on, and has nothing to do with the log
            os._exit(0)
        os._exit(0)

    in_child(in_loop(parent), by_hand=True)
    try:
        with server:
            async with EventLog.open(server.url, **opened) as log:
                assert await all_texts(log, "c") == ["spooled"]
    finally:
        go_on.send("end")
        go_on.close()
        told.close()
