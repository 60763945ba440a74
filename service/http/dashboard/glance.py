"""What the navigation says on every page, read once for all who look within a second or two."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, NamedTuple, TypeVar

from projections.views.dead_letters import DeadLetters
from projections.views.sessions import Sessions
from service.wiring import Service

T = TypeVar("T")

KEPT_S = 1.5


class Kept(Generic[T]):
    """A value that is read again once it is older than `kept_s`; who asks meanwhile shares it."""

    def __init__(self, kept_s: float = KEPT_S) -> None:
        self._kept_s = kept_s
        self._reading: asyncio.Future[T] | None = None
        self._until_s = 0.0

    async def get(self, read: Callable[[], Awaitable[T]]) -> T:
        """Return the value. Raises what reading it raises, which is not kept."""
        reading = self._reading
        is_old = reading is None or (reading.done() and time.monotonic() >= self._until_s)
        if reading is None or is_old:
            reading = self._reading = asyncio.ensure_future(self._read(read))
        # One who goes must not take it from the others.
        return await asyncio.shield(reading)

    async def _read(self, read: Callable[[], Awaitable[T]]) -> T:
        self._until_s = 0.0
        value = await read()
        self._until_s = time.monotonic() + self._kept_s
        return value


class Glance(NamedTuple):
    """Counts beside the names of pages."""

    live_session_count: int
    letter_count: int
    """Parked dead letters."""


class GlanceKeeper:
    """The last glance."""

    def __init__(self) -> None:
        self._kept = Kept[Glance]()

    async def get(self, service: Service) -> Glance:
        """Return the counts, at most a moment old."""

        async def read() -> Glance:
            sessions, letters = await asyncio.gather(
                Sessions(service.log).counts(), DeadLetters(service.log).counts_by_status()
            )
            live = sessions.get("active", 0) + sessions.get("pending", 0)
            return Glance(live, letters.get("parked", 0))

        return await self._kept.get(read)
