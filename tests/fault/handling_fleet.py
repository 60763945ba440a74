"""What a seed says of a run: the load and the strikes; and the workers that are struck."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from eventlog import EventLog, Settings
from eventlog.errors import LogUnavailable
from tests.fault.handling_history import Journal, Sent, Span
from tests.fault.handling_process import (
    GROUP,
    TYPES,
    Conduct,
    HandlingProcess,
    WorkGiven,
)
from tests.fault.processes import opened
from tests.proxy import FaultyProxy
from tests.support import RawServer, eventually

WORKERS = 4
PARTITIONS = 4
PRODUCERS = 3
CONVERSATIONS = 8
"""Of each producer; some get far more than others."""

SLOW_ENTRIES = 15
"""With which conversations begin where there is a backlog."""

Fault = Literal["kill", "pause", "release", "server", "group", "link"]
"""`kill -9` of a worker; SIGSTOP for longer than its lease, then SIGCONT; SIGTERM; the server killed and
started again; the group destroyed on the server, in one partition; and the proxy."""

FAULTS: tuple[Fault, ...] = get_args(Fault)

CONDUCTS: dict[Conduct, int] = {
    "prompt": 50, "slow": 25, "fails": 12, "never": 4, "refuses": 4, "hangs": 2,
}  # fmt: skip
"""How often each occurs."""


class Plan(NamedTuple):
    """What a run does. Equal plans draw equal loads and strikes."""

    seed: int
    seconds: float = 20
    faults: tuple[Fault, ...] = FAULTS
    events_per_s: int = 120
    lease_ttl_ms: int = 500
    shortest_gap_s: float = 0.3
    longest_gap_s: float = 1.5
    link_fault_rate: float = 0.03
    backlog: int = 0
    """Events that are appended at once, before the rate counts. Conversations then begin slowly, so
    that more is in hand than there is room for."""

    @property
    def settings(self) -> Settings:
        """What workers and producers agree on."""
        return Settings(
            partition_count=PARTITIONS,
            lease_ttl_ms=self.lease_ttl_ms,
            command_timeout_s=0.6,
            connect_timeout_s=0.6,
        )


class Strike(NamedTuple):
    """What is struck, and when."""

    at_s: float
    """Since the strikes began."""
    kind: Fault
    slot: int
    pause_s: float


def strikes(plan: Plan) -> Iterator[Strike]:
    """Return the strikes of a run, in order. Pure."""
    rnd = random.Random(f"strikes {plan.seed}")
    kinds = [kind for kind in plan.faults if kind != "link"]
    at_s = 0.0
    while kinds:
        at_s += rnd.uniform(plan.shortest_gap_s, plan.longest_gap_s)
        if at_s >= plan.seconds:
            return
        pause_s = plan.lease_ttl_ms / 1000 * rnd.uniform(1.1, 3)
        yield Strike(at_s, rnd.choice(kinds), rnd.randrange(WORKERS), pause_s)


# --- the load -------------------------------------------------------------------------------------


class Offer(NamedTuple):
    """An entry to be appended, and whether a failed append of it is repeated until it succeeds."""

    work: WorkGiven
    insists: bool


def offers(plan: Plan, producer: int) -> list[Offer]:
    """Return what a producer offers, in order. Pure."""
    rnd = random.Random(f"load {plan.seed} {producer}")
    numbers: Counter[str] = Counter()
    found = []
    for count in range(int((plan.backlog + plan.seconds * plan.events_per_s) / PRODUCERS)):
        place = min(int(rnd.expovariate(0.4)), CONVERSATIONS - 1)
        conversation = f"chat:{producer}.{place}"
        numbers[conversation] += 1
        is_first = plan.backlog > 0 and numbers[conversation] <= SLOW_ENTRIES
        conduct: Conduct = rnd.choices(list(CONDUCTS), list(CONDUCTS.values()))[0]
        work = WorkGiven(
            id=f"{producer}.{count:04d}",
            conversation=conversation,
            number=numbers[conversation],
            conduct="slow" if is_first else conduct,
            slow_s=0.3 if is_first else 0.1,
            failures=rnd.randint(1, 2),
            results=rnd.choice((0, 1, 1, 2)),
            echoes=rnd.choice((0, 0, 0, 1)),
        )
        found.append(Offer(work, rnd.random() < 0.5))
    return found


async def produce(plan: Plan, url: str, link_url: str) -> list[Sent]:
    """Return what was sent in the plan's time; the last producer has the faulty link."""
    urls = [url] * (PRODUCERS - 1) + [link_url if "link" in plan.faults else url]
    lists = await asyncio.gather(
        *(_produce(plan, producer, url) for producer, url in enumerate(urls))
    )
    return [sent for each in lists for sent in each]


async def _produce(plan: Plan, producer: int, url: str) -> list[Sent]:
    sent: list[Sent] = []
    log = await opened(url, plan.settings, TYPES)
    try:
        started_s = time.monotonic()
        for offer in offers(plan, producer):
            due_s = (len(sent) * PRODUCERS - plan.backlog) / plan.events_per_s
            ahead_s = due_s - (time.monotonic() - started_s)
            await asyncio.sleep(max(0, ahead_s))
            if time.monotonic() - started_s > plan.seconds:
                break
            sent.append(_sent(offer.work, await _append(log, offer)))
    finally:
        await log.close()
    return sent


async def _append(log: EventLog, offer: Offer) -> bool:
    """Return whether the append was acknowledged."""
    while True:
        try:
            await log.append(offer.work)
        except LogUnavailable:
            if not offer.insists:
                return False
        else:
            return True


def _sent(work: WorkGiven, is_acknowledged: bool) -> Sent:
    return Sent(
        key=work.id,
        conversation=work.conversation,
        number=work.number,
        is_acknowledged=is_acknowledged,
        results=work.results,
        echoes=work.echoes,
        is_hopeless=work.conduct in ("never", "refuses"),
    )


# --- the workers ----------------------------------------------------------------------------------


class Fleet:
    """The workers: one at work per slot, and those that were struck before."""

    def __init__(self, server: RawServer, link: FaultyProxy, folder: Path, plan: Plan) -> None:
        self._server = server
        self._link = link
        self._folder = folder
        self._plan = plan
        self._slots: list[HandlingProcess] = []
        self._started: list[HandlingProcess] = []
        self.outages: list[Span] = []
        """When the server was away."""

    @classmethod
    @contextmanager
    def at_work(
        cls, server: RawServer, link: FaultyProxy, folder: Path, plan: Plan
    ) -> Iterator[Fleet]:
        """Return a full fleet, of which nothing is left afterwards."""
        fleet = cls(server, link, folder, plan)
        try:
            fleet._slots += [fleet._start(slot) for slot in range(WORKERS)]
            yield fleet
        finally:
            for worker in fleet._started:
                worker.bury()

    def _start(self, slot: int) -> HandlingProcess:
        """Start a worker; every other slot has the faulty link."""
        has_faulty_link = "link" in self._plan.faults and slot % 2 == 1
        worker = HandlingProcess(
            self._link.url if has_faulty_link else self._server.url,
            f"worker-{len(self._started):03d}",
            self._folder,
            self._plan.settings,
            has_faulty_link=has_faulty_link,
        )
        self._started.append(worker)
        return worker

    def at_work_now(self) -> Sequence[str]:
        """Return the names of those at work."""
        return [worker.owner for worker in self._slots]

    def journals(self) -> list[Journal]:
        """Return what all of them recorded."""
        return [worker.journal() for worker in self._started]

    async def suffer(self) -> Counter[str]:
        """Return how many strikes of each kind there were, when they are over.

        One who is paused is not struck again until it wakes; the next slot is, in its place.
        """
        counts: Counter[str] = Counter()
        started_s = time.monotonic()
        for strike in strikes(self._plan):
            await asyncio.sleep(max(0, started_s + strike.at_s - time.monotonic()))
            if strike.kind == "server":
                await self._restart_server(strike.pause_s / 2)
            elif strike.kind == "group":
                await self._destroy_group(strike.slot % PARTITIONS)
            elif not self._strike_worker(strike):
                continue
            counts[strike.kind] += 1
        return counts

    async def _restart_server(self, pause_s: float) -> None:
        from_ns = time.time_ns()
        await asyncio.to_thread(self._server.kill)
        await asyncio.sleep(pause_s)
        await asyncio.to_thread(self._server.start)
        self.outages.append(Span(from_ns, time.time_ns()))

    async def _destroy_group(self, partition: int) -> None:
        async with EventLog.open(self._server.url, settings=self._plan.settings) as log:
            await log.client.xgroup_destroy(log.keys.stream(partition), GROUP)

    def _strike_worker(self, strike: Strike) -> bool:
        slots = [(strike.slot + n) % WORKERS for n in range(WORKERS)]
        slot = next((slot for slot in slots if not self._slots[slot].struck), None)
        if slot is None:
            return False
        worker = self._slots[slot]
        assert strike.kind in ("kill", "pause", "release")
        worker.strike(strike.kind)
        if strike.kind == "pause":
            asyncio.get_running_loop().call_later(strike.pause_s, worker.wake)
        else:
            self._slots[slot] = self._start(slot)
        return True

    def wake_all(self) -> None:
        for worker in self._slots:
            worker.wake()

    def crashes(self) -> list[str]:
        """Return what was said by workers that ended without being told to."""
        found = []
        for worker in self._started:
            try:
                worker.has_ended()
            except AssertionError as error:
                found.append(str(error)[-2000:])
        return found

    async def release_all(self) -> list[str]:
        """Return when everybody has ended; what is wrong with how they did, in words."""
        for worker in self._slots:
            worker.strike("release")
        try:
            await eventually(self._have_ended, timeout_s=20)
        except AssertionError as error:
            return [f"did not end in order: {error}"]
        return []

    def _have_ended(self) -> bool:
        return all(worker.has_ended() for worker in self._started)
