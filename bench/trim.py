"""Trimming: how fast, and for how long a call keeps the server from answering anybody else.

The limit is one XTRIM of everything, during which the server answers nobody.
"""

from __future__ import annotations

import sys
import time

from msgspec.structs import replace

from analytics.archiver import GROUP as ARCHIVER
from analytics.trim import trim
from analytics.trimmer import SLICE_ENTRIES
from bench.alone import measured_alone
from bench.events import chat_events
from bench.row import Row
from eventlog import EventLog

GROUPS = (ARCHIVER, *(f"g{n}" for n in range(5)))
PAGE_EVENTS = 10_000
ROUNDS = 3


async def measure(event_count: int, log: EventLog) -> list[Row]:
    """Return the row; server time by call goes to standard error."""
    client, stream = log.client, log.keys.stream(0)
    conversation = next(f"c{n}" for n in range(1000) if log.partition_of(f"c{n}") == 0)
    await _fill(log, conversation, event_count)
    head = (await log.heads())[0]
    shelf = {"v:serving": "1.0", "v@1.0": str(head)}
    for field, value in shelf.items():
        await client.execute_command("HSET", log.keys.shelf(0), field, value)
    rates: list[tuple[float, float]] = []
    kept, spare = f"{stream}:kept", f"{stream}:spare"
    await client.execute_command("RENAME", stream, kept)
    for _ in range(ROUNDS):
        for copy in (stream, spare):
            await client.execute_command("COPY", kept, copy, "REPLACE")
        for group in GROUPS:
            await client.execute_command("XGROUP CREATE", stream, group, str(head))
        started_s = time.perf_counter()
        await client.execute_command("XTRIM", spare, "MAXLEN", "=", 0)
        limit_s = time.perf_counter() - started_s
        await client.execute_command("CONFIG RESETSTAT")
        started_s, first = time.perf_counter(), True
        while first:
            done = await trim(
                log, 0, keep_n=head.n + 1, archived=head, most=SLICE_ENTRIES, groups=GROUPS
            )
            first = done.first is not None
        rates.append((event_count / (time.perf_counter() - started_s), event_count / limit_s))
        stats = (await client.info("commandstats"))["cmdstat_evalsha"]
        mean_ms = stats["usec"] / stats["calls"] / 1000
        print(
            f"  {SLICE_ENTRIES:,} entries a call: {mean_ms:.2f} ms of the server", file=sys.stderr
        )
    rate, limit = sorted(rates, key=lambda pair: pair[0] / pair[1])[ROUNDS // 2]
    return [Row("trim in slices", rate, "one XTRIM", limit, rate / limit, None)]


async def _fill(log: EventLog, conversation: str, event_count: int) -> None:
    producer = await log.producer("bench")
    for start in range(0, event_count, PAGE_EVENTS):
        page = chat_events(min(PAGE_EVENTS, event_count - start), seed=start)
        events = [replace(event, conversation=conversation) for event in page]
        await producer.append(list(enumerate(events, start + 1)))


def run(event_count: int) -> list[Row]:
    """Measure with so many events."""
    return measured_alone(measure, event_count)
