"""Segments copied by processes and by threads: the same files, and faults that leave nothing."""

from __future__ import annotations

import asyncio
import errno
import filecmp
import os
import random
import resource
import signal
import subprocess
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from analytics import Archiver, Copiers, DirectoryStorage, Rolling, Segment
from analytics.copying import Copy
from bench.events import chat_events
from eventlog import Event, EventLog, MessageReceived
from eventlog.codec import Codec
from eventlog.errors import EventLogError, HistoryGap, LogUnavailable
from eventlog.ids import START, EntryId
from eventlog.settings import Settings
from tests.archives import archived
from tests.support import RawServer, eventually


class Mine(Event, tag="my.own"):
    """A type that another process does not know."""


@pytest.fixture
async def processes() -> AsyncIterator[Copiers]:
    async with Copiers(2, process_rows=1) as copiers:
        yield copiers


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RawServer]:
    folder = tmp_path / "server"
    folder.mkdir()
    with RawServer(folder) as running:
        yield running


def running() -> list[psutil.Process]:
    """The copying processes of this one."""
    found = []
    for process in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):  # a zombie is none either
            if "analytics.copier" in process.cmdline():
                found.append(process)
    return found


async def copy_of(log: EventLog, partition: int, path: Path) -> Copy:
    """Everything in the partition, to `path`."""
    head = (await log.heads())[partition]
    [first] = await log.read_raw(partition, START, 1)
    return Copy(
        settings=log.settings,
        server_url=log.server_url,
        stream=log.keys.stream(partition),
        after=START,
        draft=Segment(partition, 1, head.n, first.id.ms),
        path=str(path),
    )


async def test_a_process_writes_the_file_that_a_thread_writes(
    log: EventLog, processes: Copiers, tmp_path: Path
) -> None:
    await log.append(chat_events(3000))
    for partition, head in enumerate(await log.heads()):
        by_thread = await copy_of(log, partition, tmp_path / f"thread{partition}")
        by_process = await copy_of(log, partition, tmp_path / f"process{partition}")
        assert await Copiers().copy(by_thread, log.codec) == head
        assert await processes.copy(by_process, log.codec) == head
        assert filecmp.cmp(by_thread.path, by_process.path, shallow=False)
    assert len(running()) == 1
    await processes.close()
    assert running() == []


async def test_an_archiver_uses_as_many_processes_as_it_may(
    log: EventLog, processes: Copiers, tmp_path: Path
) -> None:
    await log.append(chat_events(4000))
    storage = DirectoryStorage(tmp_path)
    async with Archiver(log, storage, rolling=Rolling(max_rows=300), copiers=processes) as archiver:
        segments = await archiver.run_once()
    assert len(segments) > log.partition_count
    assert len(running()) == processes.process_count == 2
    for partition, head in enumerate(await log.heads()):
        entries = archived(storage, partition)
        assert entries == await log.read_raw(partition, START, head.n)


async def test_short_segments_and_types_of_your_own_are_copied_here(
    log: EventLog, tmp_path: Path
) -> None:
    await log.append(chat_events(400))
    copy = await copy_of(log, 0, tmp_path / "file")
    async with Copiers(1) as copiers:
        await copiers.copy(copy, log.codec)
        assert running() == []
    async with Copiers(1, process_rows=1) as copiers:
        await copiers.copy(copy, Codec([Mine]))
        assert running() == []
        await copiers.copy(copy, log.codec)
        assert len(running()) == 1


async def test_an_archiver_at_rest_keeps_no_process(
    log: EventLog, processes: Copiers, tmp_path: Path
) -> None:
    await log.append(chat_events(400))
    storage = DirectoryStorage(tmp_path)
    archiver = Archiver(log, storage, rolling=Rolling(rows=1), copiers=processes)
    stop = asyncio.Event()
    at_work = asyncio.create_task(archiver.run(stop))
    await eventually(lambda: len(storage.segments()) == log.partition_count or at_work.done())
    await eventually(lambda: not running() or at_work.done())
    stop.set()
    await at_work
    await archiver.close()


@pytest.mark.parametrize("process_count", [0, 1])
async def test_faults_come_back_as_what_they_are(
    log: EventLog, tmp_path: Path, process_count: int
) -> None:
    await log.append(chat_events(400))
    copy = await copy_of(log, 0, tmp_path / "file")
    async with Copiers(process_count, process_rows=1) as copiers:
        longer = copy.draft._replace(last=copy.draft.last + 1)
        with pytest.raises(HistoryGap, match="Entries were removed from the log"):
            await copiers.copy(replaced(copy, draft=longer), log.codec)
        with pytest.raises(LogUnavailable, match="cannot be reached"):
            await copiers.copy(replaced(copy, server_url=f"unix://{tmp_path}/none"), log.codec)
        with pytest.raises(FileNotFoundError):
            await copiers.copy(replaced(copy, path=str(tmp_path / "no" / "folder")), log.codec)
        assert os.listdir(tmp_path) == []  # noqa: PTH208
        assert await copiers.copy(copy, log.codec) == (await log.heads())[0]


@pytest.mark.parametrize("event_count", [1, 4, 30])  # at the start, at the end, on the way
@pytest.mark.parametrize("process_count", [0, 1])
async def test_a_full_disk_is_called_so_and_leaves_no_file(
    log: EventLog, tmp_path: Path, process_count: int, event_count: int
) -> None:
    rnd = random.Random(3)
    for _ in range(event_count):
        await log.append(MessageReceived(conversation="c", text=rnd.randbytes(200_000).hex()))
    copy = await copy_of(log, log.partition_of("c"), tmp_path / "file")
    async with Copiers(process_count, process_rows=1) as copiers:
        free_bytes = 0 if event_count == 1 else 100_000
        with full_disk(free_bytes), pytest.raises(OSError, match="too large") as caught:
            await copiers.copy(copy, log.codec)
    assert caught.value.errno == errno.EFBIG
    assert os.listdir(tmp_path) == []  # noqa: PTH208


@contextmanager
def full_disk(free_bytes: int) -> Iterator[None]:
    """No file of this process, or of one that it starts, can grow beyond that."""
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free_bytes, usual[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)


def replaced(copy: Copy, **changes: object) -> Copy:
    return Copy(**{name: getattr(copy, name) for name in copy.__struct_fields__} | changes)


async def test_a_process_that_dies_is_named_and_replaced(
    server: RawServer, tmp_path: Path, processes: Copiers
) -> None:
    async with EventLog.open(server.url, partition_count=1, command_timeout_s=60) as log:
        await log.append(chat_events(400))
        copy = await copy_of(log, 0, tmp_path / "file")
        os.kill(server.pid, signal.SIGSTOP)
        copying = asyncio.create_task(processes.copy(copy, log.codec))
        [process] = await eventually(running)
        process.kill()
        with pytest.raises(EventLogError, match=r"exit code -9.*can be tried again"):
            await copying
        os.kill(server.pid, signal.SIGCONT)
        assert await processes.copy(copy, log.codec) == (await log.heads())[0]


@pytest.mark.parametrize("process_count", [0, 1])
async def test_cancelled_it_stops_and_the_archiver_leaves_no_file(
    server: RawServer, tmp_path: Path, process_count: int
) -> None:
    storage = DirectoryStorage(tmp_path / "archive")

    class Stalled(Copiers):
        async def copy(self, *arguments: Any) -> EntryId:
            os.kill(server.pid, signal.SIGSTOP)
            return await super().copy(*arguments)

    async with EventLog.open(server.url, partition_count=1, command_timeout_s=60) as log:
        await log.append(chat_events(400))
        async with Stalled(process_count, process_rows=1) as copiers:
            archiver = Archiver(log, storage, copiers=copiers)
            archiving = asyncio.create_task(archiver.run_once())
            [staged] = await eventually(lambda: list(storage.root.glob("day=*/.*.tmp")))
            archiving.cancel()
            # The lease is given back by a server that answers.
            os.kill(server.pid, signal.SIGCONT)
            with pytest.raises(asyncio.CancelledError):
                await archiving
            await eventually(lambda: not staged.exists())
            await eventually(lambda: not running())
            await archiver.close()
        async with Archiver(log, storage) as archiver:
            [segment] = await archiver.run_once()
        assert storage.segments() == [segment]


async def test_an_address_with_a_password_is_not_shown(log: EventLog, tmp_path: Path) -> None:
    await log.append(chat_events(400))
    copy = await copy_of(log, 0, tmp_path / "file")
    assert "s3cret" not in repr(replaced(copy, server_url="redis://:s3cret@host"))


def test_a_process_ends_with_its_input_and_not_by_ctrl_c(tmp_path: Path) -> None:
    copy = Copy(
        settings=Settings(),
        server_url=f"unix://{tmp_path}/none",
        stream="stream",
        after=START,
        draft=Segment(0, 1, 1, 1),
        path=str(tmp_path / "file"),
    )
    line = msgspec.json.encode(copy) + b"\n"
    command = [sys.executable, "-m", "analytics.copier"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(2):
            process.stdin.write(line)
            assert b"cannot be reached" in process.stdout.readline()
            process.send_signal(signal.SIGINT)
        process.stdin.close()
        assert process.wait(timeout=30) == 0


async def test_a_process_whose_starter_has_died_leaves_no_file(
    log: EventLog, tmp_path: Path
) -> None:
    await log.append(chat_events(400))
    copy = await copy_of(log, 0, tmp_path / "file")
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "analytics.copier"]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=PIPE, stdout=writing, stderr=PIPE
    )
    os.close(writing)
    _, said = await process.communicate(msgspec.json.encode(copy) + b"\n")
    assert (process.returncode, said) == (0, b"")
    assert os.listdir(tmp_path) == []  # noqa: PTH208
