"""The client of a primary that sentinels name: after a failover its connections lead to the new one."""

from __future__ import annotations

import asyncio
from typing import Any

from redis.asyncio.connection import BlockingConnectionPool
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.exceptions import ConnectionError  # noqa: A004 - theirs, not Python's

from eventlog.cancellation import CancellableClient
from eventlog.tasks import end


class BlockingSentinelPool(SentinelConnectionPool, BlockingConnectionPool):
    """redis-py's, in which a command waits for a connection where all are in use.

    Connections that look for the primary at the same time ask once: redis-py swaps its list of
    sentinels after each answer, and two at once would put one in twice and lose another.
    """

    _asking: asyncio.Task[tuple[str, int]] | None = None

    async def get_master_address(self) -> tuple[str, int]:
        """Return where the sentinels say that the primary is."""
        if self._asking is None:
            self._asking = asyncio.create_task(super().get_master_address())  # type: ignore[no-untyped-call] # as is theirs
            self._asking.add_done_callback(self._answered)
        asking = self._asking
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            if asking.cancelled():  # the pool was closed; who waits here was not cancelled
                raise ConnectionError("the connections are closed") from None
            raise

    def _answered(self, task: asyncio.Task[tuple[str, int]]) -> None:
        self._asking = None
        if not task.cancelled():
            task.exception()  # who asked may have been cancelled meanwhile

    async def aclose(self) -> None:
        """Close the connections."""
        await end(self._asking)
        await super().aclose()


class SentinelClient(CancellableClient):
    """The primary's client. A connection asks the sentinels where it is whenever it connects."""

    @property
    def sentinels(self) -> Sentinel:
        """Who is asked."""
        manager: Sentinel = self._pool.sentinel_manager
        return manager

    @property
    def service(self) -> str:
        """What the sentinels call the primary."""
        return str(self._pool.service_name)

    @property
    def _pool(self) -> Any:
        return self.connection_pool

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close the connections to the primary and to the sentinels."""
        try:
            await super().aclose(close_connection_pool)
        finally:
            await self.sentinels.aclose()
