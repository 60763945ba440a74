"""Blocked: what one conversation that fails for good costs the others.

A thousand chats get messages at a steady rate; a worker handles them, and each handling is timed from
the producer's append. In every other run the first chat's handler always fails, so that its line grows
and its retries go on. The 99th percentile of the other chats is compared.
"""

from __future__ import annotations

import asyncio
import sys
import time
from statistics import quantiles
from typing import NamedTuple

from bench.alone import measured_alone
from bench.row import Row, cost_row
from consumers.context import Context
from consumers.groups import forget
from consumers.registration import register
from consumers.retry import Retry
from consumers.worker import Worker
from eventlog import Event, EventLog, MessageReceived
from eventlog.tasks import end

CHATS = 1000
RATE_PER_S = 1500
BEAT_S = 0.01
ROUNDS = 4
AIM = 1.2
WARM = "warm"
"""The chat whose message shows that the worker is at work."""
HANDLING_S = 0.002
"""What a handler waits for, as for a quick call to another service."""
RETRY = Retry(attempts=1000, first_delay_s=0.05, factor=1.0)
"""Failing, and soon tried again, for the whole run."""


class Latencies(NamedTuple):
    """Of one run, in seconds."""

    p99_s: float
    failed_count: int


async def produce(log: EventLog, event_count: int) -> None:
    """Append that many messages at the rate, to the chats in turn."""
    started_s, count = time.perf_counter(), 0
    while count < event_count:
        due = min(int((time.perf_counter() - started_s) * RATE_PER_S), event_count) - count
        if due:
            chats = (f"chat:{(count + n) % CHATS}" for n in range(due))
            await log.append([MessageReceived(conversation=chat, text="hello") for chat in chats])
            count += due
        await asyncio.sleep(BEAT_S)


async def handle(log: EventLog, group: str, event_count: int, *, fails: bool) -> Latencies:
    """Return how long the other chats' messages took, from their append to their handling's end."""
    took_s: list[float] = []
    failed_count = 0
    worker = Worker(log, group)
    others = event_count - event_count // CHATS
    is_warm, is_done = asyncio.Event(), asyncio.Event()

    @worker.on(MessageReceived, retry=RETRY)
    async def answer(event: Event, context: Context) -> None:  # noqa: ARG001 - a handler's shape
        nonlocal failed_count
        await asyncio.sleep(HANDLING_S)
        if event.conversation == WARM:
            is_warm.set()
        elif event.conversation != "chat:0":
            took_s.append(time.time() - event.occurred_at / 1e6)
            if len(took_s) == others:
                is_done.set()
        elif fails:
            failed_count += 1
            raise RuntimeError("this chat is dead")

    stop = asyncio.Event()
    await register(log, group, "now")
    await log.append(MessageReceived(conversation=WARM, text="hello"))
    running = asyncio.create_task(worker.run(stop))
    producing: asyncio.Task[None] | None = None
    try:
        await is_warm.wait()
        producing = asyncio.create_task(produce(log, event_count))
        await is_done.wait()
    finally:
        await end(producing)
        stop.set()
        await running
        await forget(log, group)
    return Latencies(quantiles(took_s, n=100)[98], failed_count)


async def measure(event_count: int, log: EventLog) -> list[Row]:
    """Return the row: the others' 99th percentile with the failing chat, against that without it."""
    await handle(log, "bench-warm", CHATS, fails=False)
    alone: list[float] = []
    beside: list[float] = []
    for number in range(ROUNDS):
        for fails, found in ((False, alone), (True, beside)):
            group = f"bench-{number}-{'failing' if fails else 'well'}"
            latencies = await handle(log, group, event_count, fails=fails)
            found.append(latencies.p99_s)
            print(
                f"  {'with' if fails else 'without'} a failing chat: p99 "
                f"{latencies.p99_s * 1000:.1f} ms, {latencies.failed_count} failures",
                file=sys.stderr,
            )
    return [cost_row("handle beside a failing chat, p99", beside, "without it", alone, AIM)]


def run(event_count: int) -> list[Row]:
    """Return the rows, measured on a server of its own."""
    return measured_alone(measure, event_count)
