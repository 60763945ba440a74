"""How long partitions wait for a new owner once their own is struck."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import NamedTuple

from eventlog import EventLog
from projections.projecting.projector import Projector
from tests.fault.processes import StrikeKind, Struck
from tests.fault.worker_fleet import Fleet

LOOK_INTERVAL_S = 0.03


class Takeover(NamedTuple):
    """A partition changed hands after its owner was struck."""

    partition: int
    kind: StrikeKind
    took_s: float


@dataclass
class _Orphan:
    """A partition whose owner was struck."""

    owner: str
    struck: Struck


class Watch:
    """Sees who owns which partition, through the status of a projector that never runs."""

    def __init__(self, log: EventLog, fleet: Fleet) -> None:
        self.takeovers: list[Takeover] = []
        self.longest_wait_ms = 0
        """The highest age of an entry that was in the log and not yet in the read models."""
        self._log = log
        self._fleet = fleet
        self._observer = Projector(log)
        self._orphans: dict[int, _Orphan] = {}

    async def until_cancelled(self) -> None:
        while True:
            await self._look()
            await asyncio.sleep(LOOK_INTERVAL_S)

    async def everyone_is_at_work(self) -> bool:
        self._fleet.check()
        owners = {each.owner for each in await self._observer.status()}
        return owners == self._fleet.started.keys()

    async def all_is_level(self) -> bool:
        """Return whether all is projected and no partition waits for an owner."""
        self._fleet.check()
        return not self._orphans and not any(
            each.lag_count or not each.owner for each in await self._observer.status()
        )

    async def _look(self) -> None:
        self._fleet.check()
        for each in await self._observer.status():
            self.longest_wait_ms = max(self.longest_wait_ms, each.oldest_age_ms)
            if each.owner is not None:
                self._follow(each.partition, each.owner)

    def _follow(self, partition: int, owner: str) -> None:
        """Take note of a partition's owner."""
        orphan = self._orphans.get(partition)
        struck = self._fleet.struck(owner)
        if orphan and owner != orphan.owner:
            took_s = (struck.at_s if struck else time.monotonic()) - orphan.struck.at_s
            self.takeovers.append(Takeover(partition, orphan.struck.kind, max(0.0, took_s)))
        if struck is None:
            self._orphans.pop(partition, None)  # also of one who woke before anyone took over
        elif orphan is None or orphan.struck is not struck:
            self._orphans[partition] = _Orphan(owner, struck)
