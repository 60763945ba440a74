"""Which lines of a source were refused once: their positions, remembered in Redis.

A source's producer has one position for all that lies before it, so a line refused and later
corrected would count as known. It is found here instead and appended under a name of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, cast

import msgspec
from redis.exceptions import RedisError

from eventlog.connection import translate
from eventlog.errors import ImportFailed
from eventlog.log import EventLog

MAX_REJECTED = 100_000
"""Refused lines per source; one with more is not what it was taken for."""


class Rejections:
    """The refused positions of one producer."""

    def __init__(self, log: EventLog, producer: str, positions: set[int]) -> None:
        self.positions = positions
        self._log = log
        self._producer = producer
        self._is_saved = True

    @classmethod
    async def load(cls, log: EventLog, producer: str) -> Rejections:
        """Return what is remembered of the producer. Raises LogUnavailable."""
        raw = await asked(log, log.client.hget(log.keys.rejected(), producer))
        return cls(log, producer, set(msgspec.json.decode(raw, type=list[int])) if raw else set())

    def add(self, position: int) -> None:
        """Remember a refused position. Raises ImportFailed beyond the limit."""
        if position in self.positions:
            return
        if len(self.positions) >= MAX_REJECTED:
            raise ImportFailed(
                f"more than {MAX_REJECTED:,} lines of one source could not be read.",
                remedy="Look at the reported ones; the file is damaged or of another format.",
            )
        self.positions.add(position)
        self._is_saved = False

    async def save(self) -> None:
        """Write down what is new; to be done before anything after those lines is appended."""
        if self._is_saved:
            return
        raw = msgspec.json.encode(sorted(self.positions))
        await asked(
            self._log, self._log.client.hset(self._log.keys.rejected(), self._producer, raw)
        )
        self._is_saved = True


async def asked(log: EventLog, reply: Awaitable[Any] | Any) -> Any:
    """Return the server's reply. Raises LogUnavailable and its kin."""
    try:
        return await cast("Awaitable[Any]", reply)
    except (RedisError, OSError) as error:
        raise translate(error, log.settings.url or "the embedded server") or error from None
