"""Archive: how close to writing a table that is already there.

The archiver's whole way is measured: leases, plan, reading from the server, columns, file, sync,
check, link and acknowledgement; once in this process alone, once with a process per core, which
keep running between the rounds (the first round has their start in it). The limit is
`pyarrow.parquet.write_table` of the same events as a ready table, with the same options and nothing
else. The three take turns and medians are compared.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from analytics import Archiver, Copiers, DirectoryStorage
from analytics.columns import encode_entries
from analytics.segment_writer import ROW_GROUP_ROWS, parquet_options
from bench.events import fill
from bench.from_file import import_file
from bench.row import Row, row_of
from eventlog import EventLog
from eventlog.collector import spared_collector
from eventlog.ids import START

TABLE_EVENTS = 200_000
"""Rows of the ready table: it is in memory as a whole, so that it bounds the bench's own."""
ROUNDS = 5
AIM = 0.45
"""With all cores: one interpreter alone does not reach it, see docs/performance.md."""


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


async def archive_per_s(log: EventLog, root: Path, copiers: Copiers) -> float:
    """Return events per second of archiving the whole log to a new directory."""
    archiver = Archiver(log, DirectoryStorage(root), copiers=copiers)
    started = time.perf_counter()
    segments = await archiver.run_once()
    elapsed_s = time.perf_counter() - started
    await archiver.close()
    return sum(segment.row_count for segment in segments) / elapsed_s


async def measure(events: int | Path, folder: Path) -> list[Row]:
    """Return the rows, measured on a log of their own in `folder`: so many events, or a file's."""
    process_count = os.cpu_count() or 1
    names = ("archive, in one process", f"archive, {process_count} processes")
    limits: list[float] = []
    rates: dict[str, list[float]] = {name: [] for name in names}
    async with EventLog.open(data_dir=str(folder / "data"), partition_count=4) as log:
        if isinstance(events, Path):
            await import_file(log, events)
        else:
            await fill(log, events)
        table = await ready_table(log)
        async with Copiers() as threads, Copiers(process_count, process_rows=1) as processes:
            for number in range(ROUNDS):
                limits.append(await asyncio.to_thread(limit_per_s, table, folder))
                for name, copiers in zip(names, (threads, processes), strict=True):
                    root = folder / f"{number} {name}"
                    rates[name].append(await archive_per_s(log, root, copiers))
    return [
        row_of(name, rates[name], "write_table of the ready table", limits, aim)
        for name, aim in zip(names, (None, AIM), strict=True)
    ]


def run(events: int | Path) -> list[Row]:
    """Return the rows of so many events, or of a file's; a server is started and stopped for it."""
    with spared_collector(), tempfile.TemporaryDirectory(prefix="eventlog-bench-") as folder:
        return asyncio.run(measure(events, Path(folder)))
