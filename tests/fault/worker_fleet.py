"""Workers in processes of their own, and how they are struck: as a seed says."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, get_args

from eventlog import Settings
from tests.fault.processes import StrikeKind, Struck
from tests.fault.projecting_process import ProjectingProcess
from tests.support import eventually

WORKERS = 8
PARTITIONS = 8


class Plan(NamedTuple):
    """What a run does. Equal plans draw equal events and strikes."""

    seed: int
    seconds: float = 60
    events_per_s: int = 4000
    lease_ttl_ms: int = Settings().lease_ttl_ms
    shortest_gap_s: float = 0.3
    longest_gap_s: float = 1.5

    @property
    def settings(self) -> Settings:
        """What workers and generator agree on."""
        return Settings(
            partition_count=PARTITIONS,
            lease_ttl_ms=self.lease_ttl_ms,
            chat_history_limit=100_000,  # all that is ever said here
        )


class Strike(NamedTuple):
    """A worker to be struck."""

    at_s: float
    """Since the strikes began."""
    kind: StrikeKind
    slot: int
    pause_s: float


def strikes(plan: Plan) -> Iterator[Strike]:
    """Return the strikes of a run, in order. Pure."""
    rnd = random.Random(f"strikes {plan.seed}")
    at_s = 0.0
    while (at_s := at_s + rnd.uniform(plan.shortest_gap_s, plan.longest_gap_s)) < plan.seconds:
        pause_s = plan.lease_ttl_ms / 1000 * rnd.uniform(1.1, 2)
        yield Strike(at_s, rnd.choice(get_args(StrikeKind)), rnd.randrange(WORKERS), pause_s)


class Fleet:
    """The workers: one at work per slot, and those that were struck before."""

    def __init__(self, url: str, folder: Path, plan: Plan) -> None:
        self._url = url
        self._folder = folder
        self._plan = plan
        self._slots: list[ProjectingProcess] = []
        self.started: dict[str, ProjectingProcess] = {}
        """Every worker there ever was, by its name among the owners."""

    @classmethod
    @contextmanager
    def at_work(cls, url: str, folder: Path, plan: Plan) -> Iterator[Fleet]:
        """Return a full fleet, of which nothing is left afterwards."""
        fleet = cls(url, folder, plan)
        try:
            fleet._slots += [fleet._start() for _ in range(WORKERS)]
            yield fleet
        finally:
            for worker in fleet.started.values():
                worker.bury()

    def _start(self) -> ProjectingProcess:
        owner = f"worker-{len(self.started):04d}"
        worker = ProjectingProcess(self._url, owner, self._folder, self._plan.settings)
        self.started[owner] = worker
        return worker

    def struck(self, owner: str) -> Struck | None:
        """Return what keeps the owner from its work, if anything does."""
        return self.started[owner].struck

    async def suffer(self) -> Counter[str]:
        """Return how many strikes of each kind there were, when they are over.

        One who is paused is not struck again until it wakes; the next slot is, in its place.
        """
        counts: Counter[str] = Counter()
        loop = asyncio.get_running_loop()
        started_s = time.monotonic()
        for strike in strikes(self._plan):
            await asyncio.sleep(started_s + strike.at_s - time.monotonic())
            slots = [(strike.slot + n) % WORKERS for n in range(WORKERS)]
            slot = next((slot for slot in slots if not self._slots[slot].struck), None)
            if slot is None:
                continue
            worker = self._slots[slot]
            worker.strike(strike.kind)
            counts[strike.kind] += 1
            if strike.kind == "pause":
                loop.call_later(strike.pause_s, worker.wake)
            else:
                self._slots[slot] = self._start()
        return counts

    def check(self) -> None:
        """Fail where a worker has ended without being told to."""
        for worker in self.started.values():
            worker.has_ended()

    def wake_all(self) -> None:
        for worker in self._slots:
            worker.wake()

    async def release_all(self) -> None:
        """Return when everybody has ended, in order."""
        for worker in self._slots:
            worker.strike("release")
        await eventually(self._have_ended, timeout_s=30)

    def _have_ended(self) -> bool:
        return all(worker.has_ended() for worker in self.started.values())

    def reported(self, what: str) -> int:
        """Return how many lines with `what` the workers wrote, all together."""
        lines = (line for worker in self.started.values() for line in worker.said().splitlines())
        return sum(what in line for line in lines)
