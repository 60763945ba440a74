"""A value that costs something to get, kept for a while: many who ask at once cost one look."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from eventlog.clock import Clock
from eventlog.errors import EventLogError
from eventlog.logs import get_logger
from eventlog.repeated import Repeated

T = TypeVar("T")
_log = get_logger("metrics")


class Kept(Generic[T]):
    """What `look` returned last; None while it fails or takes longer than it may.

    A failure is kept as long as a value, so that those who ask do not add to the trouble.
    """

    def __init__(
        self,
        name: str,
        look: Callable[[], Awaitable[T]],
        clock: Clock,
        *,
        fresh_s: float,
        timeout_s: float,
    ) -> None:
        self.look_s = 0.0
        """How long the last look took."""
        self._name = name
        self._look = look
        self._clock = clock
        self._fresh_s = fresh_s
        self._timeout_s = timeout_s
        self._value: T | None = None
        self._until_s = float("-inf")
        self._looking: asyncio.Task[None] | None = None
        self._failures = Repeated(clock)

    async def get(self) -> T | None:
        """Return the value, looking first where it is no longer fresh."""
        if self._clock.monotonic_s() >= self._until_s:
            if self._looking is None or self._looking.done():
                self._looking = asyncio.create_task(self._renew())
            # Whoever is cancelled meanwhile does not take it away from the others.
            await asyncio.shield(self._looking)
        return self._value

    async def close(self) -> None:
        """Look no more."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])

    async def _renew(self) -> None:
        begun_s = self._clock.monotonic_s()
        self._value = None
        try:
            async with asyncio.timeout(self._timeout_s):
                self._value = await self._look()
        except (EventLogError, OSError) as error:  # TimeoutError is an OSError
            reason = str(error) or f"not within {self._timeout_s:g} s"
            if (count := self._failures.told(reason)) is not None:
                _log.warning("metrics_failed", of=self._name, error=reason, count=count)
        except Exception as error:  # noqa: BLE001 - a bug in one look must not take all numbers away
            if self._failures.told(type(error).__name__) is not None:
                _log.exception("metrics_failed", of=self._name, error=str(error))
        finally:
            ended_s = self._clock.monotonic_s()
            self.look_s = ended_s - begun_s
            self._until_s = ended_s + self._fresh_s
