"""`python -m bench.load URL PREFIX RATE`: appends RATE events a second until it is told to stop.

Told by SIGTERM; prints how many were appended. What it appends resembles the rest of the log.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from itertools import chain
from itertools import count as count_from

from bench.events import chat_events
from eventlog import EventLog

BEAT_S = 0.02
CHUNK_EVENTS = 5000
SEED = 11


async def append_at(url: str, prefix: str, rate_per_s: int) -> int:
    """Return how many events were appended, that many a second, until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    events = chain.from_iterable(chat_events(CHUNK_EVENTS, seed) for seed in count_from(SEED))
    count, started_s = 0, time.perf_counter()
    async with EventLog.open(url, key_prefix=prefix) as log:
        producer = await log.producer("load")
        while not stop.is_set():
            due = int((time.perf_counter() - started_s) * rate_per_s) - count
            batch = [(count + n + 1, event) for n, event in zip(range(due), events, strict=False)]
            if batch:
                await producer.append(batch)
                count += len(batch)
            await asyncio.sleep(BEAT_S)
    return count


if __name__ == "__main__":
    print(asyncio.run(append_at(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
