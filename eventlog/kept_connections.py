"""Connections that are kept from one call to the next, for the calls that are made all the time."""

from __future__ import annotations

import asyncio
from typing import Any

from redis import exceptions as redis_errors
from redis.asyncio.connection import AbstractConnection

from eventlog.cancellation import CancellableClient

MAX_KEPT_COUNT = 16
"""Beyond it they go back to the pool, which others wait for."""


class KeptConnections(CancellableClient):
    """A client of the same server whose commands leave the pool alone, but for the first ones.

    redis-py takes a connection from its pool for each command, gives it back, and on Python 3.11 starts
    a task to write within a time limit: half of what a short command costs (docs/performance.md). Here
    one time limit is around writing and reading. Pipelines go their usual way.
    """

    def __init__(self, client: CancellableClient, timeout_s: float) -> None:
        """`client` owns the connections and closes them."""
        super().__init__(connection_pool=client.connection_pool)
        self._timeout_s = timeout_s
        self._kept: list[AbstractConnection] = []

    async def execute_command(self, *args: Any, **options: Any) -> Any:  # noqa: ARG002 - as theirs
        """Return the reply as the server gave it."""
        connection = await self._take()
        try:
            async with asyncio.timeout(self._timeout_s):
                await connection.send_command(*args)
                reply = await connection.read_response()
        except TimeoutError:
            await self._give_back(connection)
            raise redis_errors.TimeoutError(f"no answer within {self._timeout_s:g} s") from None
        except BaseException:
            await self._give_back(connection)
            raise
        if len(self._kept) < MAX_KEPT_COUNT:
            self._kept.append(connection)
        else:
            await self._give_back(connection)
        return reply

    async def _take(self) -> AbstractConnection:
        """Return a connection that is connected and has nothing left to read."""
        while self._kept:
            kept = self._kept.pop()
            if kept.is_connected and not await kept.can_read():
                return kept
            await self._give_back(kept)  # the server closed it
        connection: AbstractConnection = await self.connection_pool.get_connection()
        connection.socket_timeout = None
        return connection

    async def _give_back(self, connection: AbstractConnection) -> None:
        connection.socket_timeout = self._timeout_s
        await self.connection_pool.release(connection)
