"""Bucket: what an archive in a bucket costs beside one in a directory.

A backlog is archived to either by turns; then a query over all of it runs on the directory, on the
bucket with nothing on this machine yet, and on the bucket's copies. The server is moto's, a process of
its own on loopback, which takes and gives some 150 MB a second: over a network the first query
is as slow as the network.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from analytics import Archiver, DirectoryStorage, Storage, Warehouse, open_storage
from bench.events import fill
from bench.row import Row, row_of
from eventlog import EventLog
from eventlog.collector import spared_collector
from eventlog.settings import Settings

ROUNDS = 3
SQL = (
    "SELECT conversation, count(*), max(occurred_at), sum(length(text)) FROM messages GROUP BY ALL"
)

_SERVER = """
import logging, sys
from moto.server import ThreadedMotoServer
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print("http://%s:%d" % server.get_host_and_port(), flush=True)
sys.stdin.read()
server.stop()
"""


def bucket(url: str, folder: Path, name: str) -> Storage:
    """Return a new bucket's storage; `folder` is where its copies will be."""
    import boto3

    boto3.client("s3", endpoint_url=url, region_name="us-east-1").create_bucket(Bucket=name)
    return another(url, folder, name)


def another(url: str, folder: Path, name: str) -> Storage:
    """Return one more storage of a bucket, with copies in another folder or the same."""
    return open_storage(f"s3://{name}", Settings(data_dir=str(folder), s3_endpoint_url=url))


async def archive_s(log: EventLog, storage: Storage) -> float:
    """Return the seconds it takes to archive the whole log."""
    started = time.perf_counter()
    async with Archiver(log, storage) as archiver:
        await archiver.run_once()
    return time.perf_counter() - started


async def query_s(storage: Storage) -> float:
    """Return the seconds of a query, connection included, as a command line has it."""
    started = time.perf_counter()
    async with Warehouse(None, storage) as warehouse:
        await warehouse.query(SQL)
    return time.perf_counter() - started


async def measure(event_count: int, folder: Path, url: str) -> list[Row]:
    """Return the rows, measured on a log of their own in `folder`."""
    times: dict[str, list[float]] = {}

    def note(name: str, duration_s: float) -> None:
        times.setdefault(name, []).append(duration_s)

    async with EventLog.open(data_dir=str(folder / "data"), partition_count=4) as log:
        await fill(log, event_count)
        for number in range(ROUNDS):
            name, copies = f"bench-{number}", folder / f"copies{number}"
            directory = DirectoryStorage(folder / f"archive{number}")
            note("directory", await archive_s(log, directory))
            there = await asyncio.to_thread(bucket, url, folder / "writer", name)
            note("bucket", await archive_s(log, there))
            note("query directory", await query_s(directory))
            note("query cold", await query_s(another(url, copies, name)))
            note("query warm", await query_s(another(url, copies, name)))
            shutil.rmtree(copies)
    rates = {name: [event_count / each for each in found] for name, found in times.items()}
    rows = (
        ("archive to a bucket", "bucket", "archive to a directory", "directory"),
        ("query a bucket, nothing here", "query cold", "query a directory", "query directory"),
        ("query a bucket, copies here", "query warm", "query a directory", "query directory"),
    )
    return [row_of(name, rates[key], limit, rates[base]) for name, key, limit, base in rows]


def run(event_count: int) -> list[Row]:
    """Return the rows; both servers are started and stopped for it."""
    os.environ |= {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench"}
    server = subprocess.Popen(
        [sys.executable, "-c", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    try:
        url = server.stdout.readline().strip()
        with spared_collector(), tempfile.TemporaryDirectory(prefix="eventlog-bench-") as folder:
            return asyncio.run(measure(event_count, Path(folder), url))
    finally:
        server.communicate("")
