"""Scaling: what two processes reach of a log that one reaches alone, on the same server.

Processes are started before the clock is, and begin together. Appending and projecting are measured
with one and with two processes in turn. On a machine of two cores the server needs the one: what two
processes reach there is bounded by what it leaves them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection

from bench.alone import measured_alone
from bench.append import produce
from bench.events import chat_events, fill
from bench.project import forget
from bench.row import Row, row_of
from eventlog import EventLog
from eventlog.collector import spared_collector
from projections.projecting.projector import Projector

ROUNDS = 3
LOOK_INTERVAL_S = 0.01

Work = Callable[[str, str, int, Connection], None]
"""Takes URL, prefix, number of events and a pipe: says that it is ready, waits, works, says so."""


def append_work(url: str, prefix: str, event_count: int, pipe: Connection) -> None:
    """Append so many events by producer sequence."""

    async def work() -> None:
        events = chat_events(event_count)
        async with EventLog.open(url, key_prefix=prefix) as log:
            pipe.send("ready")
            await asyncio.to_thread(pipe.recv)
            await produce(log, events, f"scaling-{time.time_ns()}")
            pipe.send("done")

    with spared_collector():
        asyncio.run(work())


def project_work(url: str, prefix: str, _event_count: int, pipe: Connection) -> None:
    """Project until the parent says that all has been projected."""

    async def work() -> None:
        async with EventLog.open(url, key_prefix=prefix) as log:
            await log.ping()
            pipe.send("ready")
            await asyncio.to_thread(pipe.recv)
            stop = asyncio.Event()
            running = asyncio.create_task(Projector(log).run(stop))
            await asyncio.to_thread(pipe.recv)
            stop.set()
            await running
            pipe.send("done")

    with spared_collector():
        asyncio.run(work())


@contextmanager
def started(work: Work, log: EventLog, count: int, event_count: int) -> Iterator[list[Connection]]:
    """Run so many processes; yield their pipes when all are ready."""
    context = get_context("spawn")
    pairs = [context.Pipe() for _ in range(count)]
    processes = [
        context.Process(
            target=work, args=(log.server_url, log.settings.key_prefix, event_count, theirs)
        )
        for _, theirs in pairs
    ]
    try:
        for process in processes:
            process.start()
        for _, theirs in pairs:
            theirs.close()  # so that a process that dies is an end of file here
        pipes = [ours for ours, _ in pairs]
        tell(pipes, None)
        yield pipes
    finally:
        for process in processes:
            process.join(timeout=10)
            if process.is_alive():
                process.terminate()
                process.join()


def tell(pipes: list[Connection], word: str | None) -> None:
    """Say a word to each process, if there is one, and return when each has answered."""
    if word is not None:
        say(pipes, word)
    for pipe in pipes:
        pipe.recv()


def say(pipes: list[Connection], word: str) -> None:
    """Say a word to each process."""
    for pipe in pipes:
        pipe.send(word)


async def append_per_s(log: EventLog, count: int, event_count: int) -> float:
    """Return events per second of so many processes together."""
    await log.client.flushdb()
    async with EventLog.open(log.server_url, key_prefix=log.settings.key_prefix):
        share = event_count // count
        with started(append_work, log, count, share) as pipes:
            started_s = time.perf_counter()
            await asyncio.to_thread(tell, pipes, "go")
            return share * count / (time.perf_counter() - started_s)


async def project_per_s(log: EventLog, count: int, event_count: int) -> float:
    """Return entries per second of so many projectors together, from an empty read model."""
    projector = Projector(log)
    with started(project_work, log, count, event_count) as pipes:
        say(pipes, "go")
        started_s = time.perf_counter()
        while any(status.lag_count for status in await projector.status()):  # noqa: ASYNC110 - other processes project
            await asyncio.sleep(LOOK_INTERVAL_S)
        took_s = time.perf_counter() - started_s
        await asyncio.to_thread(tell, pipes, "stop")
    await forget(log)
    return event_count / took_s


async def measure(event_count: int, log: EventLog) -> list[Row]:
    """Return the rows: two processes beside one."""
    appended: dict[int, list[float]] = {1: [], 2: []}
    projected: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(ROUNDS):
        for count, rates in appended.items():
            rates.append(await append_per_s(log, count, event_count))
    await log.client.flushdb()
    async with EventLog.open(log.server_url, key_prefix="scaled") as filled:
        await fill(filled, event_count)
        for _ in range(ROUNDS):
            for count, rates in projected.items():
                rates.append(await project_per_s(filled, count, event_count))
    return [
        row_of(f"{what}, 2 processes", rates[2], "1 process", rates[1])
        for what, rates in (("append", appended), ("project", projected))
    ]


def run(event_count: int) -> list[Row]:
    """Return the rows, measured on a server of their own."""
    return measured_alone(measure, event_count)
