"""Ending tasks."""

from __future__ import annotations

import asyncio
from typing import Any

AGAIN_S = 0.05


async def end(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel the tasks and return when they have ended, however they did; None is no task."""
    running = [task for task in tasks if task is not None]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def end_calls(*tasks: asyncio.Task[Any] | None) -> None:
    """End tasks that are nothing but one call to the server, asking until they listen.

    redis-py may hold a cancellation back until the reply has come, which for a blocking read is its
    time-out. A task with cleaning up to do must not be asked twice: it would leave that undone.
    """
    running = {task for task in tasks if task is not None}
    calls = tuple(running)
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=AGAIN_S)
    await asyncio.gather(*calls, return_exceptions=True)
