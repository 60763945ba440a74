"""Archive: how close to writing a table that is already there.

The archiver's whole way is measured: leases, plan, reading from the server, columns, file, sync,
check, link and acknowledgement. The limit is `pyarrow.parquet.write_table` of the same events as a
ready table, with the same options and nothing else; the two take turns and medians are compared.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from statistics import median

import pyarrow as pa
import pyarrow.parquet as pq

from analytics import Archiver, DirectoryStorage
from analytics.columns import encode_entries
from analytics.segment_writer import ROW_GROUP_ROWS, parquet_options
from bench.events import chat_events
from bench.row import Row
from eventlog import EventLog
from eventlog.collector import spared_collector
from eventlog.ids import START

CHUNK_EVENTS = 20_000
TABLE_EVENTS = 200_000
"""Rows of the ready table: it is in memory as a whole, so that it bounds the bench's own."""
ROUNDS = 5
AIM = 0.45


async def fill(log: EventLog, event_count: int) -> None:
    """Append the seeded events."""
    producer = await log.producer("bench-archive")
    events = chat_events(event_count)
    for start in range(0, event_count, CHUNK_EVENTS):
        chunk = events[start : start + CHUNK_EVENTS]
        await producer.append([(start + i + 1, event) for i, event in enumerate(chunk)])


async def ready_table(log: EventLog) -> pa.Table:
    """Return the first events of the log's partitions as one table in memory."""
    share = TABLE_EVENTS // log.partition_count
    tables = [
        encode_entries(p, await log.read_raw(p, START, share), log.codec)
        for p in range(log.partition_count)
    ]
    return pa.concat_tables(tables).combine_chunks()


def limit_per_s(table: pa.Table, folder: Path) -> float:
    """Return rows per second of writing the ready table."""
    started = time.perf_counter()
    pq.write_table(
        table, folder / "limit.parquet", row_group_size=ROW_GROUP_ROWS, **parquet_options()
    )
    return len(table) / (time.perf_counter() - started)


async def archive_per_s(log: EventLog, root: Path) -> float:
    """Return events per second of archiving the whole log to a new directory."""
    archiver = Archiver(log, DirectoryStorage(root))
    started = time.perf_counter()
    segments = await archiver.run_once()
    elapsed_s = time.perf_counter() - started
    await archiver.close()
    return sum(segment.row_count for segment in segments) / elapsed_s


async def measure(event_count: int, folder: Path) -> list[Row]:
    """Return the row, measured on a log of its own in `folder`."""
    async with EventLog.open(data_dir=str(folder / "data"), partition_count=4) as log:
        await fill(log, event_count)
        table = await ready_table(log)
        rates, limits = [], []
        for number in range(ROUNDS):
            limits.append(await asyncio.to_thread(limit_per_s, table, folder))
            rates.append(await archive_per_s(log, folder / f"archive{number}"))
    rate, limit = median(rates), median(limits)
    return [Row("archive", rate, "write_table of the ready table", limit, rate / limit, AIM)]


def run(event_count: int) -> list[Row]:
    """Return the row; a server is started and stopped for it."""
    with spared_collector(), tempfile.TemporaryDirectory(prefix="eventlog-bench-") as folder:
        return asyncio.run(measure(event_count, Path(folder)))
