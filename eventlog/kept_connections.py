"""Connections that are kept from one call to the next, for the calls that are made all the time."""

from __future__ import annotations

import asyncio
from typing import Any

from redis import exceptions as redis_errors
from redis.asyncio.connection import AbstractConnection

from eventlog.cancellation import CancellableClient, never_swallowed

MAX_KEPT_COUNT = 16
"""Beyond it they go back to the pool, where others wait for them."""


class KeptConnections(CancellableClient):
    """A client whose commands go to the pool for their first connections only.

    redis-py takes a connection from its pool for each command and gives it back, and on Python 3.11
    starts a task to write within a time limit: together more than half of what a short command costs
    (docs/adr/0030). Here one time limit is around writing and reading. Pipelines go their way.
    """

    def __init__(self, client: CancellableClient, timeout_s: float) -> None:
        """Use the connections of `client`, who closes them."""
        super().__init__(connection_pool=client.connection_pool)
        self._timeout_s = timeout_s
        self._kept: list[AbstractConnection] = []

    async def execute_command(self, *args: Any, **options: Any) -> Any:  # noqa: ARG002 - as theirs
        """Return the reply as the server gave it."""
        return await never_swallowed(self._reply_to(args))

    async def _reply_to(self, command: tuple[Any, ...]) -> Any:
        connection = await self._take()
        is_kept = False
        try:
            async with asyncio.timeout(self._timeout_s):
                await connection.send_command(*command)
                reply = await connection.read_response()
            is_kept = len(self._kept) < MAX_KEPT_COUNT
        except TimeoutError:
            raise redis_errors.TimeoutError(f"no answer within {self._timeout_s:g} s") from None
        finally:
            if is_kept:
                self._kept.append(connection)
            else:
                await self._give_back(connection)
        return reply

    async def _take(self) -> AbstractConnection:
        """Return a connection that is open and has nothing left to read."""
        while self._kept:
            kept = self._kept.pop()
            if kept.is_connected and not await kept.can_read():
                return kept
            await self._give_back(kept)  # the server closed it; the pool mends it
        connection: AbstractConnection = await self.connection_pool.get_connection()
        connection.socket_timeout = None  # while it is here, the limit is around both halves
        return connection

    async def _give_back(self, connection: AbstractConnection) -> None:
        connection.socket_timeout = self._timeout_s
        await self.connection_pool.release(connection)
