"""What a worker has in memory does not grow with what waits."""

from __future__ import annotations

import gc

import psutil
import pytest

from consumers import Retry, Worker
from tests.logs import message
from tests.support import eventually
from tests.working import at_work

BLOCKED = 10_000
BACKLOG = 100_000
MOST_BYTES = 48 * 1024 * 1024
"""Less than half of what the backlog's text alone would take."""


@pytest.mark.soak
async def test_ten_thousand_blocked_conversations_and_a_backlog(log):
    text = "x" * 1000
    for start in range(0, BACKLOG, 10_000):
        first = start % BLOCKED
        await log.append([message(f"chat:{first + n}", text) for n in range(10_000)])
    gc.collect()
    process = psutil.Process()
    before_bytes = process.memory_info().rss
    highest_bytes = 0
    failed = []
    worker = Worker(log, "g")

    @worker.on("message.received", retry=Retry(first_delay_s=1000))
    async def fail(event, _context):
        nonlocal highest_bytes
        failed.append(event.conversation)
        if len(failed) % 100 == 0:
            highest_bytes = max(highest_bytes, process.memory_info().rss)
        raise ValueError

    async def all_wait() -> bool:
        nonlocal highest_bytes
        highest_bytes = max(highest_bytes, process.memory_info().rss)
        status = await worker.status()
        waiting = sum(each.waiting_count for each in status.partitions)
        return waiting == BACKLOG

    async with at_work(worker):
        await eventually(all_wait, timeout_s=60)
        assert (await worker.status()).blocked_count == BLOCKED
        await log.append(message("free", text))
        await eventually(lambda: "free" in failed)
    assert sorted(failed) == sorted([*(f"chat:{n}" for n in range(BLOCKED)), "free"])
    assert highest_bytes - before_bytes < MOST_BYTES
