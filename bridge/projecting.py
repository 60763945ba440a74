"""The read models, kept up to date by a bridge for as long as it is open.

Without anybody who does so every live read would have to fold the whole log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from eventlog.log import EventLog
from eventlog.logs import get_logger
from eventlog.past import Past
from projections.projecting.projector import Projector
from projections.projection import Projection

RETRY_S = 5.0

_log = get_logger("bridge")


class Projecting:
    """A projector that runs beside the bridge's calls."""

    def __init__(self, log: EventLog, projections: Sequence[Projection], past: Past) -> None:
        self._log = log
        self._projections = projections
        self._past = past
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, unless it runs."""
        if self._task is None and not self._log.is_in_memory:
            self._stop = asyncio.Event()
            self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Give every lease back; idempotent."""
        task, self._task = self._task, None
        if task is not None:
            self._stop.set()
            await task

    async def _run(self) -> None:
        while not self._stop.is_set():
            try:
                await Projector(self._log, self._projections, past=self._past).run(self._stop)
            except Exception as error:  # noqa: BLE001 - a bug of a projection, say
                # Calls go on: live reads do without. It must not take the bot down.
                _log.exception("projecting_failed", error=str(error))
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), RETRY_S)
