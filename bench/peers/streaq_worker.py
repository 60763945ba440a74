"""streaQ: a task queue on Redis Streams."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack

import anyio
from streaq import Worker

from bench.peers.peer import BATCH_MESSAGES, Kind, Peer, Place, Stopwatch, Way
from eventlog import MessageReceived

# It writes a line for each task, which is not its work: another peer (Protean) turns that on.
logging.getLogger("streaq").setLevel(logging.WARNING)


async def handle(place: Place, messages: Sequence[MessageReceived], watch: Stopwatch) -> None:
    """Run the tasks that wait, 64 at once, until the last is done."""
    worker: Worker[None] = Worker(redis_url=place.url, concurrency=64, handle_signals=False)
    done = anyio.Event()
    count = 0

    @worker.task(ttl=0)
    async def answer(conversation: str, sender: str, text: str) -> None:  # noqa: ARG001 - a task's shape
        nonlocal count
        count += 1
        if count == len(messages):
            done.set()

    async with AsyncExitStack() as stack:
        await stack.enter_async_context(worker)
        for start in range(0, len(messages), BATCH_MESSAGES):
            part = messages[start : start + BATCH_MESSAGES]
            await worker.enqueue_many(
                [answer.enqueue(each.conversation, each.sender, each.text) for each in part]
            )
    worker.burst = True  # it ends by itself when nothing waits any more
    async with anyio.create_task_group() as group:
        with watch.running():
            group.start_soon(worker.run_async)
            await done.wait()


PEER = Peer(
    "streaQ",
    ("streaq",),
    "no order per conversation; no log: a task is gone when it is done; arguments are pickled",
    {Kind.WORK: Way("Worker.run_async, 64 at once", handle, 0.1)},
)
