"""Locks by name: one holder at a time over all processes, as many locks as there are names."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakKeyDictionary, WeakValueDictionary

from eventlog.batch import Fence
from eventlog.exclusive_lease import ExclusiveLease
from eventlog.lease import new_owner
from eventlog.log import EventLog
from eventlog.scoped import scoped
from eventlog.scripts import load_script

RETRY_S = 0.05
"""How long to wait between two tries to take a lock that another process holds."""
KEPT_MS = 60_000
"""How long the server remembers a lock after it lapsed."""

_queues: WeakKeyDictionary[EventLog, WeakValueDictionary[str, asyncio.Lock]] = WeakKeyDictionary()
"""Who waits for what in this process: its tasks take turns, and only one of them asks the server."""


class NamedLock(ExclusiveLease):
    """A lock within a conversation; its state lies in the conversation's partition.

    >>> async with NamedLock(log, "telegram:42", "agent").hold():
    ...     ...  # nobody else is here

    It is renewed while it is held, given back at the end, and lapses `lease_ttl_ms` after its
    holder died. Tasks of one process get it in the order they asked. `generation` fences: it grows
    whenever the lock changes hands, and `is_ours` says whether it did.
    """

    def __init__(self, log: EventLog, conversation: str, name: str) -> None:
        partition = log.partition_of(conversation)
        super().__init__(log, name, partition, new_owner())
        self._partition = partition
        self._key = log.keys.lock(partition, scoped(conversation, name))
        self._acquire = load_script("eventlog", "lock_acquire")
        self._acquire_args.append(KEPT_MS)
        self._held_generation = 0

    @property
    def retry_s(self) -> float:
        """How long to wait between two tries to take it."""
        return RETRY_S

    @property
    def fence(self) -> Fence | None:
        """What `append(fence=…)` takes, None while the lock is not held or has no server to fence it."""
        if self._log.is_in_memory or not self._held_generation:
            return None
        return Fence(self._partition, self._key, self._held_generation)

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        """Wait for the lock, keep it, and give it back. May raise LogUnavailable."""
        queues = _queues.setdefault(self._log, WeakValueDictionary())
        async with queues.setdefault(self._key, asyncio.Lock()), super().hold():
            self._held_generation = self.generation
            try:
                yield
            finally:
                self._held_generation = 0
