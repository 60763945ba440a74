"""taskiq with taskiq-redis: a task queue, with its broker on Redis Streams."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from taskiq.receiver import Receiver
from taskiq_redis import RedisStreamBroker

from bench.peers.peer import Kind, Peer, Place, Stopwatch, Way
from eventlog import MessageReceived

# It writes a line for each task, which is not its work: another peer (Protean) turns that on.
logging.getLogger("taskiq").setLevel(logging.WARNING)


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
    finish = asyncio.Event()
    with ThreadPoolExecutor(1) as executor:
        receiver = Receiver(broker, executor, run_startup=False, max_async_tasks=64)
        with watch.running():
            listening = asyncio.create_task(receiver.listen(finish))
            await done.wait()
        finish.set()
        await listening
    await broker.shutdown()


PEER = Peer(
    "taskiq",
    ("taskiq", "taskiq-redis"),
    "no order per conversation; no dead letters; repeats run again; a task that was read and not "
    "acknowledged is taken over after ten minutes",
    {Kind.WORK: Way("receiver, 64 at once", handle, 0.1)},
)
