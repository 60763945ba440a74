"""Time limits of running handlers: one timer for all, since nearly all of them end in time.

asyncio.timeout sets a timer for each, which measured a fifth of a worker's time with handlers that do
nothing.
"""

from __future__ import annotations

import asyncio


class TimeLimits:
    """Cancels tasks whose handler takes too long."""

    def __init__(self) -> None:
        self._deadlines_s: dict[asyncio.Task[None], float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, task: asyncio.Task[None], timeout_s: float) -> None:
        """Have the task cancelled when the time is over, unless `end` comes first."""
        loop = task.get_loop()
        deadline_s = loop.time() + timeout_s
        self._deadlines_s[task] = deadline_s
        if self._timer is None or deadline_s < self._timer.when():
            self._set(loop, deadline_s)

    def end(self, task: asyncio.Task[None]) -> bool:
        """Return whether the task was cancelled here; that cancellation is taken back."""
        if self._deadlines_s.pop(task, None) is not None:
            return False
        task.uncancel()
        return True

    def _set(self, loop: asyncio.AbstractEventLoop, deadline_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_at(deadline_s, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Cancel what is over its time; set the timer for what comes next."""
        self._timer = None
        now_s = loop.time()
        over = [task for task, deadline_s in self._deadlines_s.items() if deadline_s <= now_s]
        for task in over:
            del self._deadlines_s[task]
            task.cancel()
        if self._deadlines_s:
            self._set(loop, min(self._deadlines_s.values()))
