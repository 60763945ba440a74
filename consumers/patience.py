"""Asking a server that may be away, for as long as it takes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from eventlog.errors import LogUnavailable
from eventlog.log import EventLog

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0

T = TypeVar("T")


async def insist(
    log: EventLog, call: Callable[[], Awaitable[T]], on_fault: Callable[[LogUnavailable], None]
) -> T:
    """Return what `call` returns, which is safe to repeat; `on_fault` is told once that it waits."""
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            return await call()
        except LogUnavailable as error:
            if pause_s == FIRST_PAUSE_S:
                on_fault(error)
            await log.clock.sleep(pause_s)
            with suppress(LogUnavailable):
                await log.heads()  # brings a dead embedded server back
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
