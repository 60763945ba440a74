"""`python -m bench.live URL PREFIX`: a projector of its own process, until SIGTERM."""

from __future__ import annotations

import asyncio
import signal
import sys

from eventlog import EventLog
from eventlog.collector import spared_collector
from projections.projecting.projector import Projector


async def project(url: str, prefix: str) -> None:
    """Project until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with EventLog.open(url, key_prefix=prefix) as log:
        await Projector(log).run(stop)


if __name__ == "__main__":
    with spared_collector():
        asyncio.run(project(*sys.argv[1:3]))
