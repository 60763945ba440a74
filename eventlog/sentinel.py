"""The client of a primary that sentinels name: after a failover its connections lead to the new one."""

from __future__ import annotations

from typing import Any

from redis.asyncio.connection import BlockingConnectionPool
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool

from eventlog.cancellation import CancellableClient


class BlockingSentinelPool(SentinelConnectionPool, BlockingConnectionPool):
    """redis-py's, in which a command waits for a connection where all are in use."""


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
