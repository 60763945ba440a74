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
from eventlog.tasks import end
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
        """Begin, unless it runs: in this event loop, not in one before or in the parent's."""
        if not self._is_here() and not self._log.is_in_memory:
            self._stop = asyncio.Event()
            self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Give every lease back; idempotent."""
        task, is_here = self._task, self._is_here()
        self._task = None
        if task is not None and is_here:
            self._stop.set()
            await task

    async def _reached(self) -> None:
        """Return when the log has been reached, which may be opened without, or it is to stop."""
        waits = [asyncio.create_task(self._log.reached()), asyncio.create_task(self._stop.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end(*waits)

    def _is_here(self) -> bool:
        return self._task is not None and self._task.get_loop() is asyncio.get_running_loop()

    async def _run(self) -> None:
        await self._reached()
        while not self._stop.is_set():
            try:
                await Projector(self._log, self._projections, past=self._past).run(self._stop)
            except Exception as error:  # noqa: BLE001 - a bug of a projection, say
                # Calls go on: live reads do without. It must not take the bot down.
                _log.exception("projecting_failed", error=str(error))
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), RETRY_S)
