"""Time, injected: nothing below the CLI calls `time` itself."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """What code may know of time; tests pass their own (the idea is trio's)."""

    def now_us(self) -> int:
        """Wall clock in microseconds since 1970, UTC."""
        ...

    def monotonic_s(self) -> float:
        """Seconds that never go backwards."""
        ...

    async def sleep(self, duration_s: float) -> None:
        """Return after `duration_s` seconds."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_us(self) -> int:
        """Wall clock in microseconds since 1970, UTC."""
        return time.time_ns() // 1000

    def monotonic_s(self) -> float:
        """Seconds that never go backwards."""
        return time.monotonic()

    async def sleep(self, duration_s: float) -> None:
        """Return after `duration_s` seconds."""
        await asyncio.sleep(duration_s)


SYSTEM_CLOCK = SystemClock()
