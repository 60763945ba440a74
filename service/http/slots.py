"""Places for what runs at once: how many there are, who waits for one, who is sent away."""

from __future__ import annotations

import asyncio
from collections import deque

from service.http.refusal import Refusal


class Slots:
    """How many run at once. Some more may wait for a place, for a while; others are sent away."""

    def __init__(self, count: int, waiting_count: int = 0, wait_s: float = 0.0) -> None:
        self.free_count = count
        self._waiting_count = waiting_count
        self._wait_s = wait_s
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def __aenter__(self) -> None:
        if self.free_count:
            self.free_count -= 1
            return
        if len(self._waiting) >= self._waiting_count:
            raise _overloaded()
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            async with asyncio.timeout(self._wait_s):
                await place
        except BaseException as error:
            if place.done() and not place.cancelled():
                self._give_back()  # it was given in the same moment
            else:
                self._waiting.remove(place)
            if isinstance(error, TimeoutError):
                raise _overloaded() from None
            raise

    async def __aexit__(self, *_: object) -> None:
        self._give_back()

    def _give_back(self) -> None:
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                return
        self.free_count += 1


def _overloaded() -> Refusal:
    return Refusal(
        "overloaded",
        "the service has as much to do as it can.",
        remedy="Try again in a moment.",
        headers={"Retry-After": "1"},
    )
