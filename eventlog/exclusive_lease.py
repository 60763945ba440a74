"""An exclusive lease: one partition, for as long as something is done that two may not do at once.

Where `LeaseKeeper` shares partitions out for good, this waits for one and gives it back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from weakref import WeakKeyDictionary

from eventlog.connection import in_our_words
from eventlog.errors import EventLogError
from eventlog.lease import BEATS_PER_TTL
from eventlog.log import EventLog
from eventlog.scripts import Argument, load_script
from eventlog.tasks import end

_in_memory: WeakKeyDictionary[EventLog, dict[str, str]] = WeakKeyDictionary()
"""Who holds what of a log without a server: only this process has it, and it cannot lapse."""


class ExclusiveLease:
    """A group's lease of one partition, held by one owner at a time.

    >>> async with lease.hold():
    ...     if await lease.is_ours():
    ...         ...  # nobody else is here, unless this process sleeps longer than the lease lasts
    """

    def __init__(self, log: EventLog, group: str, partition: int, owner: str) -> None:
        self._log = log
        self.group = group
        self._key = log.keys.lease(partition, group)
        self._owner = owner
        self._ttl_ms = log.settings.lease_ttl_ms
        self._acquire = load_script("eventlog", "lease_acquire")
        self._acquire_args: list[Argument] = [owner, self._ttl_ms]
        self._release = load_script("eventlog", "lease_release")
        self._generation = 0
        self._is_lost = True

    @property
    def beat_s(self) -> float:
        """How long to wait between two renewals."""
        return self._ttl_ms / 1000 / BEATS_PER_TTL

    @property
    def retry_s(self) -> float:
        """How long to wait between two tries to take it."""
        return self.beat_s

    @property
    def generation(self) -> int:
        """What fences its holder: it grows whenever the lease changes hands. 0 while not held."""
        return self._generation

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        """Wait until nobody else holds it, renew it meanwhile, and give it back. May raise LogUnavailable."""
        while True:
            try:
                self._generation = await self._take()
            except asyncio.CancelledError:
                await self._forgo()
                raise
            if self._generation:
                break
            await self._log.clock.sleep(self.retry_s)
        self._is_lost = False
        renewing = asyncio.create_task(self._renew())
        try:
            yield
        finally:
            try:
                await end(renewing)  # a renewal under way would take it again
            finally:  # also where the holder is cancelled just now: without a server nothing lapses
                with suppress(EventLogError):  # then it lapses by itself
                    await self._give_back()

    async def is_ours(self) -> bool:
        """Renew it and return whether nobody else had it since `hold` took it.

        Once it was lost it stays so, even if it could be taken again: another may have been at work.
        """
        started_s = self._log.clock.monotonic_s()
        generation = await self._take()
        elapsed_s = self._log.clock.monotonic_s() - started_s
        # Who was asleep for longer than the lease lasts learns nothing from an old answer.
        if generation != self._generation or elapsed_s * 1000 >= self._ttl_ms:
            self._is_lost = True
            self._generation = generation
        return not self._is_lost

    async def _renew(self) -> None:
        while not self._is_lost:
            await self._log.clock.sleep(self.beat_s)
            with suppress(EventLogError):  # it may still hold when the server is back
                await self.is_ours()

    async def _take(self) -> int:
        """Return the lease's generation, 0 where another holds it."""
        if self._log.is_in_memory:
            held = _in_memory.setdefault(self._log, {})
            return int(held.setdefault(self._key, self._owner) == self._owner)
        with in_our_words(self._log.settings):
            return int(await self._acquire(self._log.client, [self._key], self._acquire_args))

    async def _forgo(self) -> None:
        """Give back what the server may have given to a call whose reply nobody waited for."""
        with suppress(EventLogError):  # then it lapses by itself
            self._generation = await self._take()
            await self._give_back()

    async def _give_back(self) -> None:
        if self._generation and self._log.is_in_memory:
            del _in_memory[self._log][self._key]
        elif self._generation:
            with in_our_words(self._log.settings):
                await self._release(self._log.client, [self._key], [self._generation])
        self._generation = 0
