"""Imports a folder while a projector works, then catches up. Told so, it kills the server, then itself.

`python -m tests.fault.importing_process DATA_DIR SOURCE [SERVER_DIES_AT PROCESS_DIES_AT]`, both as
counts of entries in the log.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from bridge.importers.importing import import_paths
from eventlog import EventLog, Settings
from eventlog.embedded import EmbeddedServer
from projections.projecting.projector import Projector


def settings(data_dir: str | Path) -> Settings:
    return Settings(data_dir=str(data_dir), partition_count=4, lease_ttl_ms=500)


async def kill_at(log: EventLog, count: int, pid: int) -> None:
    """Kill the process `pid` once the log has that many entries."""
    while sum(head.n for head in await log.heads()) < count:
        pass  # the call itself lets the others work
    os.kill(pid, signal.SIGKILL)


async def kill(log: EventLog, server_dies_at: int, process_dies_at: int) -> None:
    server_pid = EmbeddedServer(log.settings).pid
    assert server_pid is not None
    await kill_at(log, server_dies_at, server_pid)
    await kill_at(log, process_dies_at, os.getpid())


async def main(data_dir: str, source: str, *deaths: str) -> None:
    async with EventLog.open(settings=settings(data_dir)) as log:
        stop = asyncio.Event()
        projecting = asyncio.create_task(Projector(log).run(stop))
        killing = asyncio.create_task(kill(log, *map(int, deaths))) if deaths else None
        try:
            await import_paths(log, [Path(source)])
            if killing is not None:
                await killing
        finally:
            stop.set()
            await projecting
        await Projector(log).run_until_caught_up()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
