"""How many handlers run at once in a process, shared by its partitions in turn."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable


class Slots:
    """Places for running handlers. Who finds none is given one later, first come, first served."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: deque[Callable[[], None]] = deque()
        self._suspect: object | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether somebody waits: who has finished an entry should let go."""
        return bool(self._waiting)

    def take(self, given: Callable[[], None]) -> bool:
        """Return whether a place was free and is now the caller's.

        If not, `given` is called once when a place has become the caller's.
        """
        if self._free:
            self._free -= 1
            return True
        if given not in self._waiting:
            self._waiting.append(given)
        return False

    def give_back(self) -> None:
        """Let go of a place; it goes to whoever has waited longest."""
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._waiting.popleft())
        else:
            self._free += 1

    def suspect(self, entry: object) -> bool:
        """Return whether an entry that may kill its process may begin: only one at once can be told."""
        if self._suspect is None:
            self._suspect = entry
        return self._suspect is entry

    def clear(self, entry: object) -> None:
        """The suspect's attempt has ended, and the process lives."""
        if self._suspect is entry:
            self._suspect = None
