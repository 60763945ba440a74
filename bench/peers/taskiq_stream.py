"""taskiq with taskiq-redis: a task queue, with its broker on Redis Streams."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from taskiq.api import run_receiver_task
from taskiq_redis import RedisStreamBroker

from bench.peers.peer import Kind, Peer, Place, Stopwatch, Way
from eventlog import MessageReceived
from eventlog.tasks import end


async def handle(place: Place, messages: Sequence[MessageReceived], watch: Stopwatch) -> None:
    """Run the tasks that wait, 64 at once, until the last is done."""
    broker = RedisStreamBroker(url=place.url)
    done = asyncio.Event()
    count = 0

    @broker.task
    async def answer(conversation: str, sender: str, text: str) -> None:  # noqa: ARG001 - a task's shape
        nonlocal count
        count += 1
        if count == len(messages):
            done.set()

    await broker.startup()
    for message in messages:
        await answer.kiq(message.conversation, message.sender, message.text)
    with watch.running():
        running = asyncio.create_task(run_receiver_task(broker, max_async_tasks=64))
        await done.wait()
    await end(running)
    await broker.shutdown()


PEER = Peer(
    "taskiq",
    ("taskiq", "taskiq-redis"),
    "no order per conversation; no dead letters; repeats run again; a task that was read and not "
    "acknowledged is taken over after ten minutes",
    {Kind.WORK: Way("receiver, 64 at once", handle, 0.1)},
)
