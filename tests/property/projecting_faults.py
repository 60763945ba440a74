"""What can befall a commit or a swap: death around it, a request or a reply lost, a long delay.

And a clock on which nothing of that takes long.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from eventlog.clock import SystemClock
from eventlog.errors import LogUnavailable
from eventlog.ids import EntryId
from eventlog.log import EventLog
from projections.storing.batch import Commit, CommitOutcome, Committed
from projections.storing.build import Build
from projections.storing.redis_models import RedisModels


class Hasty(SystemClock):
    """A clock that hardly sleeps, and on which no two moments are the same millisecond."""

    def __init__(self) -> None:
        self._now_us = super().now_us()

    def now_us(self) -> int:
        self._now_us += 1000
        return self._now_us

    async def sleep(self, duration_s: float) -> None:
        await super().sleep(min(duration_s, 0.005))


FAULTS = ("dies before", "dies midway", "dies after", "request lost", "reply lost")


class Fault(NamedTuple):
    """What happens at one commit, counted per partition from 1."""

    kind: str
    partition: int
    at: int


class Faulty(RedisModels):
    """Read models that meet a fault, and with `swap_fault` one when a build is swapped in."""

    def __init__(
        self,
        log: EventLog,
        fault: Fault | None = None,
        swap_fault: Literal["dies before", "dies after"] | None = None,
    ) -> None:
        super().__init__(log)
        self._fault = fault
        self._swap_fault = swap_fault
        self._counts: Counter[int] = Counter()
        self.work: asyncio.Task[Any] | None = None
        self.bound: set[int] = set()
        """Partitions whose group was moved to the lowest checkpoint."""
        self.befall: Callable[[], Coroutine[Any, Any, None]] | None = None
        """What happens before documents are fetched for the first time."""

    async def documents(
        self, partition: int, wanted: Sequence[tuple[str, Sequence[str]]]
    ) -> list[list[bytes | None]]:
        befall, self.befall = self.befall, None
        if befall:
            await befall()
        return await super().documents(partition, wanted)

    async def _die(self) -> None:
        assert self.work is not None
        self.work.cancel()
        await asyncio.Event().wait()

    async def commit(self, commit: Commit) -> CommitOutcome:
        self._counts[commit.partition] += 1
        place = commit.partition, self._counts[commit.partition]
        kind = self._fault.kind if self._fault and place == self._fault[1:] else "none"
        if kind == "dies before":
            await self._die()
        if kind == "request lost":
            raise LogUnavailable("the request was lost")
        if kind == "dies midway" and self.work:
            self.work.cancel()
        outcome = await super().commit(commit)
        if outcome == Committed() and commit.moves_group:
            self.bound.add(commit.partition)
        if kind == "dies after":
            await self._die()
        if kind == "reply lost":
            raise LogUnavailable("the reply was lost")
        return outcome

    async def swap(self, builds: Mapping[int, Build]) -> None:
        if self._swap_fault == "dies before":
            await self._die()
        await super().swap(builds)
        if self._swap_fault == "dies after":
            await self._die()


class Stalled(RedisModels):
    """Read models whose commits wait until they may go on."""

    def __init__(self, log: EventLog) -> None:
        super().__init__(log)
        self.may_go_on = asyncio.Event()

    async def commit(self, commit: Commit) -> CommitOutcome:
        await self.may_go_on.wait()
        return await super().commit(commit)


class Unmoved:
    """Is told how projecting goes; that nothing stops is all it wants."""

    def on_commit(self, position: EntryId, count: int) -> None:
        """The shelf is asked instead."""

    def on_stop(self, stopped: Exception) -> None:
        raise AssertionError(stopped)
