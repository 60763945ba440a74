"""Two programs' commands to a server, let through one at a time in an order that the test chooses.

So a test decides what comes between the reading and the writing of a call, the same in every run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

from redis.asyncio import Redis

from tests.support import turns


class Turnstile:
    """Open, except while `run` lets calls through by turns."""

    def __init__(self, count: int) -> None:
        self._waiting: list[list[asyncio.Future[None]]] = [[] for _ in range(count)]
        self._passing_count = 0
        self._is_open = True

    def guard(self, who: int, client: Redis) -> None:
        """Let the client's commands pass here only."""
        execute = client.execute_command

        async def in_turn(*arguments: Any, **options: Any) -> Any:
            if self._is_open:
                return await execute(*arguments, **options)
            turn = asyncio.get_running_loop().create_future()
            self._waiting[who].append(turn)
            await turn
            try:
                return await execute(*arguments, **options)
            finally:
                self._passing_count -= 1

        client.execute_command = in_turn  # type: ignore[method-assign]

    async def run(
        self, calls: Sequence[Coroutine[Any, Any, Any]], order: Sequence[int]
    ) -> list[Any]:
        """Return what each program's call returned; `order` says who goes first, time and again."""
        self._is_open = False
        tasks = [asyncio.create_task(call) for call in calls]
        choices = iter(order)
        try:
            while True:
                await self._all_stand_or_are_done(tasks)
                here = [who for who, turns in enumerate(self._waiting) if turns]
                if not here:
                    break
                chosen = here[next(choices, 0) % len(here)]
                self._passing_count += 1
                self._waiting[chosen].pop(0).set_result(None)
        finally:
            self._is_open = True
        return [task.result() for task in tasks]

    async def _all_stand_or_are_done(self, tasks: Sequence[asyncio.Task[Any]]) -> None:
        while self._passing_count or any(
            not task.done() and not turns for task, turns in zip(tasks, self._waiting, strict=True)
        ):
            await turns()
