"""A client whose calls never lose a cancellation.

redis-py writes to its socket within `asyncio.wait_for`, which before Python 3.12 returns normally
when a cancellation and the end of the write fall together (CPython issue 86296): the task then goes
on as if nobody had asked it to stop. Here the cancellation is raised after the call instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

T = TypeVar("T")


class CancellableClient(Redis):
    """redis-py's client, with calls that end as cancelled when they were cancelled."""

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Return the reply."""
        call = super().execute_command(*args, **options)  # type: ignore[no-untyped-call] # as is theirs
        return await never_swallowed(call)

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        """Return a pipeline, whose `execute` is guarded alike."""
        return CancellablePipeline(
            self.connection_pool, self.response_callbacks, transaction, shard_hint
        )


class CancellablePipeline(Pipeline):
    """redis-py's pipeline, with the same guarantee."""

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Return the replies."""
        return await never_swallowed(super().execute(raise_on_error))


async def never_swallowed(call: Coroutine[Any, Any, T]) -> T:
    """Return what the call returns; raise CancelledError if the task was cancelled meanwhile."""
    task = asyncio.current_task()
    asked_before = task.cancelling() if task else 0
    try:
        if asked_before:
            await asyncio.sleep(0)  # if it was asked while it ran, it hears of it here
        return await call
    finally:
        call.close()  # nothing, unless it was never begun
        if task and task.cancelling() > asked_before:
            raise asyncio.CancelledError
