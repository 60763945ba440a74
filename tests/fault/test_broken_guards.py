"""A guard taken out of the product is found by the very anomaly that it guards against.

Each scenario is clean with the guard in, so that what is found comes from its absence.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from analytics import Archiver, Policy, Retention, Rolling, storage_of
from consumers import DeliveryHandlers, Worker
from consumers.group_partition import GroupPartition
from consumers.senders.sender import Delivery, Receipt
from eventlog import EventLog, MessageQueued, MessageReceived, Settings
from eventlog.clock import SystemClock
from eventlog.errors import Fenced
from eventlog.lease import Lease, LeaseKeeper
from eventlog.named_lock import NamedLock
from eventlog.past import Stretch
from projections.builtin import DEFAULT_PROJECTIONS
from projections.folding.letters import GROUP
from projections.folding.pipeline import BeginAnew, Pipeline
from projections.projecting.projector import Projector
from projections.projecting.worker import targets_on
from projections.storing.default_store import default_store
from tests.fault.journal import JournalFile
from tests.fault.whole.anomalies import anomalies
from tests.fault.whole.appending import Diary, Offer
from tests.fault.whole.broken import BEHIND_THE_LEASE, GUARDS, break_product
from tests.fault.whole.history import History
from tests.fault.whole.job import Job, Post
from tests.fault.whole.judging import history_of, unequal_models
from tests.fault.whole.reading import DELIVERING, WATCHING, handle
from tests.fault.whole.watching import GROUPS, Watch
from tests.support import eventually

CHAT = "web:1"
ALL = Policy(age_ms=0, recent_ms=0)


@dataclasses.dataclass
class Scene:
    """A log, and the journals of those who are at work on it."""

    log: EventLog
    folder: Path

    async def say(self, diary: Diary, number: int) -> None:
        """Append a message, recorded as the run's producers do."""
        await self.append(diary, self.offer(number))

    def offer(self, number: int) -> Offer:
        event = MessageReceived(id=f"{CHAT}#{number}", conversation=CHAT, text=str(number))
        return Offer(event, number)

    async def append(self, diary: Diary, offer: Offer) -> None:
        diary.offer([offer])
        result = await self.log.append(offer.event)
        diary.acknowledged([offer.event.id], [[result.partition, result.sequence]])

    def diary(self, name: str) -> Diary:
        return Diary(JournalFile(self.folder / f"{name}.jsonl"))

    async def work(self, number: int) -> None:
        """Have a worker at work until it is given a message; with 0 until its groups are there."""
        stop = asyncio.Event()
        job = Job("worker", "worker", "", str(self.folder), self.log.settings, 1, 1)
        working = asyncio.create_task(handle(Post(job, self.log, JournalFile(job.journal), stop)))
        try:
            if number:
                await eventually(lambda: f"{CHAT}#{number}" in job.journal.read_text())
            else:
                await eventually(self._has_groups)
        finally:
            stop.set()
            await working

    async def _has_groups(self) -> bool:
        return await self.log.client.hlen(self.log.keys.groups()) == len(GROUPS)

    async def history(self) -> History:
        return await history_of(self.log, self.folder)

    async def unwatched(self) -> History:
        """Return the history of a scene in which nobody has to be given every entry."""
        return dataclasses.replace(await self.history(), whole_readers=())

    async def take_leases_away(self, of: Lease) -> None:
        """Have a lease lapse, as while its owner sleeps."""
        key = self.log.keys.lease(of.partition, of.group)
        assert await self.log.client.hset(key, "expires_ms", 0) == 0

    async def pipeline(self) -> Pipeline:
        """Return the pipeline of a projector that has just been given the one partition."""
        keeper = LeaseKeeper(self.log, GROUP)
        await eventually(lambda: _has_taken(keeper))
        store = default_store(self.log)
        shelf = await store.shelf(0)
        targets = targets_on(shelf, DEFAULT_PROJECTIONS)
        position = shelf.checkpoint(targets[0].build)
        return Pipeline(self.log, store, targets, keeper.held[0], position)

    async def after(self, pipeline: Pipeline) -> Stretch:
        """Return what a pipeline is to fold next."""
        entries = await self.log.read_raw(0, pipeline.position, 10)
        return Stretch(entries, entries[-1].id)


async def offered_twice(scene: Scene) -> History:
    """Somebody does not know whether a message was taken, and offers it again."""
    diary = scene.diary("producer")
    await scene.say(diary, 1)
    await scene.say(diary, 1)
    await scene.work(1)
    return await scene.history()


async def lock_lost(scene: Scene) -> History:
    """One who numbers under a lock sleeps for longer than it lasts, and goes on when it wakes."""
    first, second = scene.diary("first"), scene.diary("second")
    offer = scene.offer(1)
    sleeper = NamedLock(scene.log, CHAT, "writer")
    async with EventLog.open(scene.log.settings.url, settings=scene.log.settings) as elsewhere:
        other = NamedLock(elsewhere, CHAT, "writer")
        async with sleeper.hold():
            fence = sleeper.fence
            assert fence is not None
            first.offer([offer])
            await scene.log.client.hset(fence.key, "expires_ms", 0)  # as when it sleeps
            async with other.hold():
                await scene.say(second, 2)
                try:
                    result = await scene.log.append(offer.event, fence=fence)
                    first.acknowledged([offer.event.id], [[result.partition, result.sequence]])
                except Fenced as error:
                    first.failed([offer.event.id], error)
    await scene.work(2)
    return await scene.history()


async def trimmed_before_handled(scene: Scene) -> History:
    """All is archived and projected, and a group has handled nothing yet."""
    diary = scene.diary("producer")
    await scene.work(0)  # registers the groups
    for number in range(1, 11):
        await scene.say(diary, number)
    storage = storage_of(scene.log.settings)
    async with Archiver(scene.log, storage, rolling=Rolling(rows=1)) as archiver:
        await archiver.run_once()
    await Projector(scene.log).run_until_caught_up()
    await Retention(scene.log, storage, ALL).apply()
    await Watch(scene.log, JournalFile(scene.folder / "watch.jsonl")).look()
    # What the group never sees now comes of that.
    return dataclasses.replace(await scene.history(), whole_readers=())


async def reply_lost(scene: Scene) -> History:
    """Entries were delivered to a worker that never heard of it, and then died."""
    diary = scene.diary("producer")
    await scene.work(0)  # registers the groups
    for number in range(1, 11):
        await scene.say(diary, number)
    partition = scene.log.partition_of(CHAT)
    keeper = LeaseKeeper(scene.log, WATCHING)
    await keeper.refresh()
    fetched = await GroupPartition(scene.log, keeper.held[partition]).fetch(5)
    assert fetched
    await keeper.release_all()
    await scene.say(diary, 11)
    await scene.work(11)
    return await scene.history()


# --- two owners of one partition ------------------------------------------------------------------------


async def folded_by_two(scene: Scene) -> History:
    """A projector sleeps with a batch in hand, and commits it when another one has."""
    diary = scene.diary("producer")
    await scene.say(diary, 1)
    await Projector(scene.log).run_until_caught_up()  # makes the read models
    await scene.say(diary, 2)
    sleeper = await scene.pipeline()
    await scene.take_leases_away(sleeper.lease)
    other = await scene.pipeline()
    batch = await scene.after(other)
    await other.put(batch)
    await other.flush()
    with suppress(Fenced, BeginAnew):
        await sleeper.put(batch)
        await sleeper.flush()
    return await scene.unwatched()


async def delivered_by_two(scene: Scene) -> History:
    """A worker sleeps while its message is on the way, and settles when another one has."""
    diary, sent = scene.diary("producer"), JournalFile(scene.folder / "sent.jsonl")
    queued = MessageQueued(id=f"{CHAT}#1", conversation=CHAT, text="1")
    await scene.append(diary, Offer(queued, 1))
    slow, quick = Platform(sent), Platform(sent)
    quick.goes_on.set()
    settings = scene.log.settings
    async with EventLog.open(settings.url, settings=settings, clock=Standing()) as asleep:
        sleeper = Worker(asleep, DELIVERING, DeliveryHandlers({"web": slow}))
        sleeping = asyncio.create_task(sleeper.run())
        await slow.was_reached.wait()
        await scene.take_leases_away(Lease(DELIVERING, 0, "", 0))
        await Worker(scene.log, DELIVERING, DeliveryHandlers({"web": quick})).run_once()
        assert quick.was_reached.is_set()
        slow.goes_on.set()
        sleeper.stop()
        await sleeping
    return await scene.unwatched()


class Standing(SystemClock):
    """Waits for good, as a process that sleeps: it renews no lease, and believes that it holds."""

    def monotonic_s(self) -> float:
        """No time passes."""
        return 0.0

    async def sleep(self, duration_s: float) -> None:  # noqa: ARG002 - none is over
        """Return when cancelled."""
        await asyncio.Event().wait()


class Platform:
    """Takes a message when it is told to go on."""

    def __init__(self, journal: JournalFile) -> None:
        self._journal = journal
        self.was_reached = asyncio.Event()
        self.goes_on = asyncio.Event()

    async def send(self, message: MessageQueued, delivery: Delivery) -> Receipt:
        self.was_reached.set()
        await self.goes_on.wait()
        self._journal.write(
            "send", key=delivery.idempotency_key, conversation=message.conversation,
            is_taken=True, attempt=delivery.attempt,
        )  # fmt: skip
        return Receipt()

    async def close(self) -> None:
        """There is nothing to let go of."""


SCENES: dict[str, Callable[[Scene], Awaitable[History]]] = {
    "dedup": offered_twice,
    "fence": lock_lost,
    "floor": trimmed_before_handled,
    "PEL drain": reply_lost,
}


TWO_OWNERS: dict[str, Callable[[Scene], Awaitable[History]]] = {
    "checkpoint": folded_by_two,
    "dedup": delivered_by_two,
}
"""By what else holds, each in its scene, where the fence of a lease does not."""


async def _has_taken(keeper: LeaseKeeper) -> bool:
    await keeper.refresh()
    return bool(keeper.held)


@pytest.fixture
def _mended() -> Iterator[None]:
    yield
    break_product()


@pytest.mark.usefixtures("_mended")
@pytest.mark.parametrize("is_broken", [False, True], ids=["whole", "broken"])
@pytest.mark.parametrize("guard", SCENES)
async def test_the_anomaly_is_found_where_its_guard_is_out(
    server_url: str, tmp_path: Path, guard: str, is_broken: bool
) -> None:
    found = await _found(server_url, tmp_path, SCENES[guard], (guard,) if is_broken else ())
    assert found == ({GUARDS[guard].anomaly} if is_broken else set())


@pytest.mark.usefixtures("_mended")
@pytest.mark.parametrize("is_out", ["none", "lease", "second", "both"])
@pytest.mark.parametrize("second", TWO_OWNERS)
async def test_behind_the_fence_of_a_lease_is_another_guard_and_behind_both_the_anomaly(
    server_url: str, tmp_path: Path, second: str, is_out: str
) -> None:
    out = {"none": (), "lease": ("lease",), "second": (second,), "both": ("lease", second)}[is_out]
    found = await _found(server_url, tmp_path, TWO_OWNERS[second], out)
    assert found == ({BEHIND_THE_LEASE[second]} if is_out == "both" else set())


async def _found(
    server_url: str,
    folder: Path,
    scene: Callable[[Scene], Awaitable[History]],
    out: Collection[str],
) -> set[str]:
    """Return the names of the anomalies of a scene, some guards being out."""
    break_product(out)
    settings = Settings(
        url=server_url,
        key_prefix=f"guard:{scene.__name__}:{'-'.join(out).replace(' ', '-')}",
        partition_count=1,
        archive_dir=str(folder / "archive"),
        lease_ttl_ms=400,
    )
    async with EventLog.open(server_url, settings=settings) as log:
        history = await scene(Scene(log, folder))
        unequal = await unequal_models(log) if scene is folded_by_two else []
    return {each.name for each in [*anomalies(history), *unequal]}


def test_each_guard_is_in_the_product() -> None:
    root = Path(__file__).parents[2]
    sources = [path.read_text() for path in root.glob("*/lua/**/*.lua")]
    for name, guard in GUARDS.items():
        assert sum(guard.part in source for source in sources) == 1, name
