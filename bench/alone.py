"""A server of its own for a benchmark, and nothing else going on in the process."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable

from bench.row import Row
from eventlog import EventLog
from eventlog.collector import spared_collector

Measure = Callable[[int, EventLog], Awaitable[list[Row]]]
"""Takes a number of events and an empty log."""


def measured_alone(measure: Measure, event_count: int) -> list[Row]:
    """Return the rows, measured on a server that is started and stopped here."""
    with spared_collector(), tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_measured(measure, event_count, folder))


async def _measured(measure: Measure, event_count: int, folder: str) -> list[Row]:
    async with EventLog.open(data_dir=folder, key_prefix="bench") as log:
        return await measure(event_count, log)
