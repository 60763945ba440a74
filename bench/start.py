"""Start: how long a program waits for the embedded server, from `EventLog.open` to its first append.

In a new directory, and in one whose log has events that the server loads first. Beside it the bundled
server by itself: started on a socket, with an append-only file, until it answers a PING.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from bench.events import fill
from bench.row import Row, cost_row
from eventlog import EventLog, MessageReceived
from eventlog.collector import spared_collector
from eventlog.server_binary import find_server_binary

ROUNDS = 5
MOST_S = 0.5
_POLL_S = 0.001


async def open_s(folder: Path) -> float:
    """Return the seconds until the first event is in the log of that directory."""
    started_s = time.perf_counter()
    async with EventLog.open(data_dir=str(folder)) as log:
        await log.append(MessageReceived(conversation="telegram:1", text="hello"))
        return time.perf_counter() - started_s


def bare_s(folder: Path) -> float:
    """Return the seconds until a server started by hand answers."""
    folder.mkdir()
    path = folder / "s.sock"
    options = [
        "--port",
        "0",
        "--unixsocket",
        str(path),
        "--appendonly",
        "yes",
        "--dir",
        str(folder),
    ]
    started_s = time.perf_counter()
    server = subprocess.Popen([find_server_binary(None), *options], stdout=subprocess.DEVNULL)
    try:
        while not _answers(path):
            time.sleep(_POLL_S)
        return time.perf_counter() - started_s
    finally:
        server.terminate()
        server.wait()


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        connection.sendall(b"PING\r\n")
        return connection.recv(64).startswith(b"+PONG")


async def measure(event_count: int, folder: Path) -> list[Row]:
    """Return the rows; opening anew, opening what is there and the bare server take turns."""
    old = folder / "old"
    async with EventLog.open(data_dir=str(old)) as log:
        await fill(log, event_count)
    fresh: list[float] = []
    reopened: list[float] = []
    bare: list[float] = []
    for number in range(ROUNDS):
        bare.append(await asyncio.to_thread(bare_s, folder / f"bare-{number}"))
        fresh.append(await open_s(folder / f"new-{number}"))
        reopened.append(await open_s(old))
    most = [MOST_S] * ROUNDS
    name = "start, new log, to the first append"
    return [
        cost_row(name, fresh, f"{MOST_S} s", most, 1.0),
        cost_row(name, fresh, "the bare server", bare, None),
        cost_row(f"start, log of {event_count:,} events", reopened, f"{MOST_S} s", most, None),
    ]


def run(event_count: int) -> list[Row]:
    """Return the rows; each round starts servers of its own."""
    with spared_collector(), tempfile.TemporaryDirectory(prefix="eventlog-bench-") as folder:
        return asyncio.run(measure(event_count, Path(folder)))
