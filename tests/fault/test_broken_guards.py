"""A guard taken out of the product is found by the very anomaly that it guards against.

Each scenario is clean with the guard in, so that what is found comes from its absence.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from analytics import Archiver, Policy, Retention, Rolling, storage_of
from consumers.group_partition import GroupPartition
from eventlog import EventLog, MessageReceived, Settings
from eventlog.errors import Fenced
from eventlog.lease import LeaseKeeper
from eventlog.named_lock import NamedLock
from projections.projecting.projector import Projector
from tests.fault.journal import JournalFile
from tests.fault.whole.anomalies import anomalies
from tests.fault.whole.appending import Diary, Offer
from tests.fault.whole.broken import GUARDS, break_product
from tests.fault.whole.history import History
from tests.fault.whole.job import Job, Post
from tests.fault.whole.judging import history_of
from tests.fault.whole.reading import WATCHING, handle
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
        await self._append(diary, self.offer(number))

    def offer(self, number: int) -> Offer:
        event = MessageReceived(id=f"{CHAT}#{number}", conversation=CHAT, text=str(number))
        return Offer(event, number)

    async def _append(self, diary: Diary, offer: Offer) -> None:
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


SCENES: dict[str, Callable[[Scene], Awaitable[History]]] = {
    "dedup": offered_twice,
    "fence": lock_lost,
    "floor": trimmed_before_handled,
    "PEL drain": reply_lost,
}


@pytest.fixture
def _mended() -> Iterator[None]:
    yield
    break_product("")


@pytest.mark.usefixtures("_mended")
@pytest.mark.parametrize("is_broken", [False, True], ids=["whole", "broken"])
@pytest.mark.parametrize("guard", SCENES)
async def test_the_anomaly_is_found_where_its_guard_is_out(
    server_url: str, tmp_path: Path, guard: str, is_broken: bool
) -> None:
    break_product(guard if is_broken else "")
    settings = Settings(
        url=server_url,
        key_prefix=f"guard:{guard.replace(' ', '-')}:{is_broken}",
        partition_count=1,
        archive_dir=str(tmp_path / "archive"),
        lease_ttl_ms=400,
    )
    async with EventLog.open(server_url, settings=settings) as log:
        history = await SCENES[guard](Scene(log, tmp_path))
    found = {each.name for each in anomalies(history)}
    assert found == ({GUARDS[guard].anomaly} if is_broken else set())


def test_each_guard_is_in_the_product() -> None:
    root = Path(__file__).parents[2]
    sources = [path.read_text() for path in root.glob("*/lua/**/*.lua")]
    for name, guard in GUARDS.items():
        assert sum(guard.part in source for source in sources) == 1, name
