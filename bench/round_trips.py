"""Counting how often a program waits for the server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis.asyncio.connection import AbstractConnection


class RoundTrips:
    """What went to the server and came back while it was counted."""

    def __init__(self) -> None:
        self.call_count = 0
        """Commands and pipelines that were sent."""
        self.count = 0
        """Times that the program waited: calls under way together are one."""
        self.under_way = 0


@contextmanager
def counted_round_trips() -> Iterator[RoundTrips]:
    """Count the round trips of every asyncio client in the process."""
    trips = RoundTrips()
    send, read = AbstractConnection.send_packed_command, AbstractConnection.read_response

    async def counted_send(self: Any, *arguments: Any, **named: Any) -> None:
        trips.call_count += 1
        trips.count += trips.under_way == 0
        trips.under_way += 1
        await send(self, *arguments, **named)

    async def counted_read(self: Any, *arguments: Any, **named: Any) -> Any:
        try:
            return await read(self, *arguments, **named)
        finally:
            trips.under_way -= 1

    AbstractConnection.send_packed_command = counted_send  # type: ignore[method-assign]
    AbstractConnection.read_response = counted_read  # type: ignore[method-assign]
    try:
        yield trips
    finally:
        AbstractConnection.send_packed_command = send  # type: ignore[method-assign]
        AbstractConnection.read_response = read  # type: ignore[method-assign]
