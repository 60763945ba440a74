"""A module of the bench in a process of its own, beside what is measured."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from eventlog import EventLog


@asynccontextmanager
async def beside(log: EventLog, module: str, *arguments: str) -> AsyncIterator[None]:
    """Run `python -m module URL PREFIX …` until the block ends; it must not end before."""
    command = [sys.executable, "-m", module, log.server_url, log.settings.key_prefix, *arguments]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
    try:
        yield
        if process.returncode is not None:
            raise AssertionError(f"{module} ended with {process.returncode}")
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()
