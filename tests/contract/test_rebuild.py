"""Rebuild, roll back, verify and time travel on a real server, from a real archive."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from analytics import Archiver, DirectoryStorage, Rolling
from analytics.past import ArchivedPast
from eventlog.clock import SystemClock
from eventlog.entry import Entry
from eventlog.errors import (
    BuildMissing,
    ConfigurationError,
    HistoryGap,
    InvalidQuery,
    ProjectionStopped,
)
from eventlog.event import Event
from eventlog.ids import START, EntryId
from eventlog.keys import models_pattern
from eventlog.lease import LeaseKeeper
from eventlog.log import EventLog
from eventlog.past import Stretch
from eventlog.vocabulary import MessageReceived, ToolCalled
from projections.building import builder
from projections.building.builder import Builder, Progress, builders_of
from projections.building.rebuilding import cancel, drop, rebuild, rollback
from projections.building.verifying import Verified, verify
from projections.builtin import DEFAULT_PROJECTIONS
from projections.folding.letters import GROUP
from projections.folding.pipeline import BeginAnew, Pipeline
from projections.folding.replay import Moment, state_at
from projections.folding.target import Target
from projections.projecting.projector import Projector
from projections.projecting.tasks import end
from projections.projection import DocumentProjection, IndexEntry, Projection
from projections.reading.live import LiveDocuments
from projections.storing.batch import Commit, CommitOutcome
from projections.storing.build import Build, Role, Shelf
from projections.storing.memory_models import MemoryModels
from projections.storing.redis_models import RedisModels
from projections.views.dead_letters import DeadLetters
from projections.views.history import HISTORY
from projections.views.sessions import SESSIONS, Sessions
from tests.projecting import chats_of, oracle, random_events, read_out
from tests.support import eventually


class Hasty(SystemClock):
    """A clock on which nobody sleeps for long."""

    async def sleep(self, duration_s: float) -> None:
        await super().sleep(min(duration_s, 0.05))


class Used(msgspec.Struct):
    chat: str
    count: int = 0


class Tools(DocumentProjection[Used]):
    """Tool calls per chat: a user's projection."""

    name = "tools"
    types = (ToolCalled,)
    state_type = Used
    facets: ClassVar[tuple[str, ...]] = ("tool",)

    def key(self, event: ToolCalled) -> str:
        return event.conversation

    def initial(self, key: str) -> Used:
        return Used(key)

    def apply(self, state: Used, entry: Entry) -> Used:  # noqa: ARG002 - it only counts
        state.count += 1
        return state

    def index(self, key: str, state: Used) -> list[IndexEntry]:  # noqa: ARG002 - by state alone
        return [("all", state.count), ("tool:any", 1)]


class ToolsTwice(Tools):
    """The next version, which counts double."""

    version = 2

    def apply(self, state: Used, entry: Entry) -> Used:
        return super().apply(super().apply(state, entry), entry)


class Strict(Tools):
    """Stops at what it cannot take."""

    name = "strict"
    on_poison = "stop"

    def apply(self, state: Used, entry: Entry) -> Used:
        assert isinstance(entry.event, ToolCalled)
        if entry.event.name == "poison":
            raise ValueError("cannot take it")
        return super().apply(state, entry)


class Lenient(Strict):
    """Parks what it cannot take."""

    name = "lenient"
    on_poison = "park"


class Mended(Tools):
    """The stopping one with its fault mended."""

    name = "strict"


TOOLS, TOOLS_TWICE = Tools(), ToolsTwice()


def calls(count: int, chat_count: int = 8, name: str = "find", first: int = 0) -> list[Event]:
    return [
        ToolCalled(conversation=f"chat:{n % chat_count}", id=f"call-{n}", call=f"{n}", name=name)
        for n in range(first, first + count)
    ]


async def used(log: EventLog, projection: Tools = TOOLS, stored: bool = True) -> dict[str, int]:
    """Return the counts by chat, as the list says them."""
    documents = LiveDocuments(log, projection)
    page = await documents.page("all", 1000, consistency="stored" if stored else "live")
    return {each.chat: each.count for each in page.items}


@pytest.fixture
def storage(tmp_path: Path) -> DirectoryStorage:
    return DirectoryStorage(tmp_path / "archive")


@pytest.fixture
def past(storage: DirectoryStorage) -> ArchivedPast:
    return ArchivedPast(storage)


async def archive(log: EventLog, storage: DirectoryStorage) -> None:
    async with Archiver(log, storage, rolling=Rolling(max_rows=20)) as archiver:
        await archiver.run_once()


async def trim(log: EventLog, kept_count: int = 0) -> list[int]:
    """Trim all but so many entries of each partition; return how many went."""
    gone = []
    for partition in range(log.partition_count):
        stream = log.keys.stream(partition)
        gone.append(await log.client.xtrim(stream, maxlen=kept_count, approximate=False))
    return gone


async def shelves_of(log: EventLog) -> list[Shelf]:
    return [await RedisModels(log).shelf(p) for p in range(log.partition_count)]


async def in_role(log: EventLog, name: str, role: Role) -> list[Build | None]:
    return [shelf.get(name, role) for shelf in await shelves_of(log)]


async def entry_count(log: EventLog) -> int:
    return sum(head.n for head in await log.heads())


async def stored_models(log: EventLog, name: str) -> set[tuple[int, str]]:
    """Return the (partition, build) whose keys are stored of a projection."""
    found = set()
    async for key in log.client.scan_iter(models_pattern(log.keys.log, name), count=1000):
        tag, _, rest = key.decode().partition("}:model:")
        found.add((int(tag.rpartition(":")[2]), rest.partition(":")[0]))
    return found


async def named_models(log: EventLog, name: str) -> set[tuple[int, str]]:
    """Return the (partition, build) that shelves name."""
    return {
        (partition, build.model)
        for partition, shelf in enumerate(await shelves_of(log))
        for build in shelf.builds.values()
        if build.name == name
    }


class Gated(RedisModels):
    """Read models that swap nothing in until they may."""

    def __init__(self, log: EventLog) -> None:
        super().__init__(log)
        self.is_asked = asyncio.Event()
        self.may_swap = asyncio.Event()

    async def swap(self, builds: Mapping[int, Build]) -> None:
        self.is_asked.set()
        await self.may_swap.wait()
        await super().swap(builds)


class Watched(RedisModels):
    """Read models that keep their commits."""

    def __init__(self, log: EventLog) -> None:
        super().__init__(log)
        self.commits: list[Commit] = []

    async def commit(self, commit: Commit) -> CommitOutcome:
        outcome = await super().commit(commit)
        self.commits.append(commit)
        return outcome


@asynccontextmanager
async def projecting(
    log: EventLog, projections: Sequence[Projection] = DEFAULT_PROJECTIONS, **more: Any
) -> AsyncIterator[Projector]:
    stop = asyncio.Event()
    projector = Projector(log, projections, **more)
    running = asyncio.create_task(projector.run(stop))
    try:
        yield projector
    finally:
        stop.set()
        await running


# --- where a build comes from ------------------------------------------------------------------------


async def test_a_model_is_built_from_the_archive_and_then_from_the_log(
    log: EventLog, storage: DirectoryStorage, past: ArchivedPast
) -> None:
    events = random_events(random.Random(1), 500, chat_count=9)
    await log.append([*events[:400]])
    await Projector(log).run_until_caught_up()
    await archive(log, storage)
    assert sum(await trim(log, kept_count=7)) == 400 - 4 * 7
    await log.append([*events[400:]])
    told: list[Progress] = []
    for projection in DEFAULT_PROJECTIONS:
        rebuilt = await rebuild(log, projection, past=past, on_progress=told.append)
        assert (rebuilt.model, rebuilt.position_count) == (projection.model, 500)
    assert told[-1] == Progress(500, 500)
    assert await read_out(log, chats_of(events), "stored") == oracle(events)
    assert await entry_count(log) == 500, "a build writes nothing into the log"
    await Projector(log).run_until_caught_up()
    assert await read_out(log, chats_of(events), "live") == oracle(events)


@pytest.mark.parametrize("kept_count", [0, 3])
async def test_a_lost_shelf_is_made_anew_from_the_archive(
    server_url: str, storage: DirectoryStorage, past: ArchivedPast, kept_count: int
) -> None:
    events = random_events(random.Random(2), 200, chat_count=9)
    async with EventLog.open(
        server_url, key_prefix=f"lost-shelf-{kept_count}", partition_count=4, clock=Hasty()
    ) as log:
        await log.append([*events])
        await archive(log, storage)
        await trim(log, kept_count)
        await Projector(log, past=past).run_until_caught_up()
        assert await read_out(log, chats_of(events), "stored") == oracle(events)


@pytest.mark.parametrize("is_archived", [False, True])
async def test_history_that_is_nowhere_is_named_and_nothing_is_begun(
    log: EventLog, storage: DirectoryStorage, past: ArchivedPast, is_archived: bool
) -> None:
    partition = log.partition_of("c")
    if is_archived:
        await log.append([MessageReceived(conversation="c", text="old") for _ in range(4)])
        await archive(log, storage)
    await log.append([MessageReceived(conversation="c", text="new") for _ in range(16)])
    await Projector(log).run_until_caught_up()
    total = (await log.heads())[partition].n
    await log.client.xtrim(log.keys.stream(partition), maxlen=5, approximate=False)
    before = [shelf.builds for shelf in await shelves_of(log)]
    missing = f"partition {partition}: entries {5 if is_archived else 1} to {total - 5}"
    for given in (past, None) if not is_archived else (past,):
        with pytest.raises(HistoryGap, match=missing):
            await rebuild(log, SESSIONS, past=given)
    assert [shelf.builds for shelf in await shelves_of(log)] == before


# --- builders ----------------------------------------------------------------------------------------


async def test_a_builder_goes_on_where_a_dead_one_was(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builder, "BATCH_ENTRIES", 80)
    await log.append(calls(300, chat_count=1))
    partition = log.partition_of("chat:0")

    class Dying(Watched):
        async def commit(self, commit: Commit) -> CommitOutcome:
            if len(self.commits) == 2:
                await asyncio.Event().wait()
            return await super().commit(commit)

    watched = Dying(log)
    build = Build.begin(TOOLS.name, 1, log.clock.now_us())
    for each in range(log.partition_count):
        await watched.begin(each, build)
    dying = asyncio.create_task(Builder(log, TOOLS, store=watched).run())
    await eventually(lambda: len(watched.commits) == 2)
    await end(dying)
    reached = (await watched.shelf(partition)).checkpoint(build)
    assert reached > START
    second = Watched(log)
    await rebuild(log, TOOLS, store=second)
    assert second.commits[0].steps[0].checkpoint == reached
    assert await in_role(log, "tools", "serving") == [build] * 4
    assert await used(log) == {"chat:0": 300}


async def test_builders_share_the_partitions(server_url: str) -> None:
    async with EventLog.open(
        server_url, key_prefix="shared-build", partition_count=4, lease_ttl_ms=300
    ) as log:
        await log.append(calls(400, chat_count=40))
        keeper = LeaseKeeper(log, builders_of(TOOLS))
        is_shared = asyncio.Event()

        class Patient(Watched):
            async def commit(self, commit: Commit) -> CommitOutcome:
                await is_shared.wait()
                return await super().commit(commit)

        models = Patient(log)
        for partition in range(4):
            await models.begin(partition, Build("tools", 1, "1"))
        both = [
            asyncio.create_task(Builder(log, TOOLS, store=models, owner=owner).run())
            for owner in ("a", "b")
        ]

        async def have_shared() -> bool:
            owners = [await keeper.owner_of(p) for p in range(4)]
            return owners.count("a") == owners.count("b") == 2

        await eventually(have_shared)
        is_shared.set()
        assert any(await asyncio.gather(*both))
        assert {commit.lease.owner for commit in models.commits} == {"a", "b"}
        assert await used(log) == {f"chat:{n}": 10 for n in range(40)}


async def test_a_short_log_is_not_swapped_in_before_it_is_folded(server_url: str) -> None:
    """Not even where a dead builder still has the leases, so that it is near the end for a while."""
    async with EventLog.open(
        server_url, key_prefix="short-build", partition_count=4, lease_ttl_ms=900
    ) as log:
        await log.append(calls(80))
        await Projector(log, [TOOLS]).run_until_caught_up()
        dead = LeaseKeeper(log, builders_of(TOOLS), "dead")
        await dead.refresh()
        await rebuild(log, TOOLS)
        assert await used(log) == {f"chat:{n}": 10 for n in range(8)}


async def test_projecting_goes_on_and_readers_see_the_old_build_until_all_is_swapped_at_once(
    log: EventLog,
) -> None:
    await log.append(calls(160))
    async with projecting(log, [TOOLS]) as projector:
        await projector.run_until_caught_up()
        old = await in_role(log, "tools", "serving")
        gated = Gated(log)
        rebuilding = asyncio.create_task(rebuild(log, TOOLS, store=gated))
        await gated.is_asked.wait()
        assert None not in await in_role(log, "tools", "building")
        await log.append(calls(80, first=160))
        await projector.run_until_caught_up()
        assert await used(log) == {f"chat:{n}": 30 for n in range(8)}
        assert await in_role(log, "tools", "serving") == old
        seen: set[tuple[bool, ...]] = set()

        async def watch() -> None:
            while True:
                pipeline = log.client.pipeline(transaction=True)
                for partition in range(4):
                    pipeline.hget(log.keys.shelf(partition), "tools:serving")
                marks = await pipeline.execute()
                pairs = zip(marks, old, strict=True)
                seen.add(
                    tuple(
                        build is not None and mark.decode() == build.mark for mark, build in pairs
                    )
                )

        watching = asyncio.create_task(watch())
        await eventually(lambda: bool(seen))
        gated.may_swap.set()
        await rebuilding
        await eventually(lambda: (False,) * 4 in seen or watching.done())
        await end(watching)
        assert seen == {(True,) * 4, (False,) * 4}
        assert await in_role(log, "tools", "previous") == old
        await log.append(calls(80, first=240))
        await projector.run_until_caught_up()
    assert await used(log) == {f"chat:{n}": 40 for n in range(8)}


# --- rolling back, giving up -------------------------------------------------------------------------


async def test_a_roll_back_and_another_one(log: EventLog) -> None:
    await log.append(calls(80))
    await Projector(log, [TOOLS]).run_until_caught_up()
    with pytest.raises(BuildMissing):
        await rollback(log, TOOLS)
    first = await in_role(log, "tools", "serving")
    await rebuild(log, TOOLS)
    second = await in_role(log, "tools", "serving")
    await log.append(calls(80, first=80))
    await Projector(log, [TOOLS]).run_until_caught_up()
    for serving, previous in ((first, second), (second, first)):
        rolled = await rollback(log, TOOLS)
        assert rolled.model == "tools@1"
        assert await in_role(log, "tools", "serving") == serving
        assert await in_role(log, "tools", "previous") == previous
        assert await in_role(log, "tools", "building") == [None] * 4
        assert await used(log) == {f"chat:{n}": 20 for n in range(8)}, "it catches up first"
        await log.append(MessageReceived(conversation="chat:0", text="no call"))
    await Projector(log, [TOOLS]).run_until_caught_up()
    assert [each.difference async for each in verify(log, TOOLS)] == [None] * 4


async def test_a_roll_back_does_not_take_another_build_for_the_previous_one(log: EventLog) -> None:
    await log.append(calls(80))
    await Projector(log, [TOOLS]).run_until_caught_up()
    await rebuild(log, TOOLS)
    previous = await in_role(log, "tools", "previous")
    for partition in range(4):
        await RedisModels(log).begin(partition, Build("tools", 1, "1"))
    with pytest.raises(ConfigurationError, match="cancel"):
        await rollback(log, TOOLS)
    assert await in_role(log, "tools", "previous") == previous
    await cancel(log, "tools")
    await rollback(log, TOOLS)
    assert await in_role(log, "tools", "serving") == previous


async def test_a_version_s_projector_and_its_roll_back_may_fold_the_same_build(
    log: EventLog,
) -> None:
    await log.append(calls(80))
    async with projecting(log, [TOOLS]) as projector:
        await projector.run_until_caught_up()
        await rebuild(log, TOOLS_TWICE)
        first = 80
        for _ in range(5):
            gated = Gated(log)
            rolling = asyncio.create_task(rollback(log, TOOLS, store=gated))
            await gated.is_asked.wait()
            for _ in range(10):
                await log.append(calls(8, first=first))
                first += 8
            gated.may_swap.set()
            await rolling
            await rebuild(log, TOOLS_TWICE)
        await projector.run_until_caught_up()
    assert await used(log) == {f"chat:{n}": first // 8 for n in range(8)}


async def test_what_is_dropped_or_cancelled_leaves_no_key(log: EventLog) -> None:
    await log.append(random_events(random.Random(3), 200))
    projections = [*DEFAULT_PROJECTIONS, TOOLS]
    await Projector(log, projections).run_until_caught_up()
    for projection in (HISTORY, SESSIONS, TOOLS):
        name = projection.name
        await rebuild(log, projection)
        both = await stored_models(log, name)
        assert both <= await named_models(log, name)
        assert await drop(log, name) > 0
        assert await in_role(log, name, "previous") == [None] * 4
        assert await stored_models(log, name) == both & await named_models(log, name) < both
        with pytest.raises(BuildMissing):
            await drop(log, name)
        gated = Gated(log)
        rebuilding = asyncio.create_task(rebuild(log, projection, store=gated))
        await gated.is_asked.wait()
        await end(rebuilding)
        assert await cancel(log, name) > 0
        assert await stored_models(log, name) <= await named_models(log, name)
        with pytest.raises(BuildMissing):
            await cancel(log, name)
    assert await used(log) == await used(log, stored=False)


async def test_a_batch_of_a_build_that_was_given_up_meanwhile_is_not_written(log: EventLog) -> None:
    await log.append(calls(80))
    await Projector(log, [TOOLS]).run_until_caught_up()
    partition, build = log.partition_of("chat:0"), Build("tools", 1, "1")
    await RedisModels(log).begin(partition, build)
    before = await stored_models(log, "tools")
    may_commit = asyncio.Event()

    class Slow(RedisModels):
        async def commit(self, commit: Commit) -> CommitOutcome:
            await may_commit.wait()
            return await super().commit(commit)

    keeper = LeaseKeeper(log, builders_of(TOOLS))
    await keeper.refresh()
    target = Target(TOOLS, build, "building")
    pipeline = Pipeline(log, Slow(log), [target], keeper.held[partition], START, moves_group=False)
    entries = await log.read_raw(partition, START, 10)
    await pipeline.put(Stretch(entries, entries[-1].id))
    await cancel(log, "tools")
    may_commit.set()
    with pytest.raises(BeginAnew):
        await pipeline.flush()
    assert await stored_models(log, "tools") == before
    assert before <= await named_models(log, "tools")


async def test_a_build_of_another_version_in_the_making_is_not_disturbed(log: EventLog) -> None:
    await log.append(calls(80))
    await Projector(log, [TOOLS]).run_until_caught_up()
    for partition in range(4):
        await RedisModels(log).begin(partition, Build("tools", 2, "1"))
    before = [shelf.builds for shelf in await shelves_of(log)]
    with pytest.raises(ConfigurationError, match="tools@2"):
        await rebuild(log, TOOLS)
    assert [shelf.builds for shelf in await shelves_of(log)] == before
    await rebuild(log, TOOLS_TWICE)
    assert await used(log, TOOLS_TWICE) == {f"chat:{n}": 20 for n in range(8)}


async def test_logs_whose_names_begin_alike_keep_their_models(server_url: str) -> None:
    async with (
        EventLog.open(server_url, key_prefix="alike", partition_count=2) as log,
        EventLog.open(server_url, key_prefix="alike:x", partition_count=2) as other,
    ):
        for each in (log, other):
            await each.append(calls(80))
            await Projector(each, [TOOLS]).run_until_caught_up()
        await rebuild(log, TOOLS)
        await drop(log, "tools")
        assert await used(log) == await used(other) == {f"chat:{n}": 10 for n in range(8)}


# --- new projections and new versions ----------------------------------------------------------------


async def test_a_projection_new_to_a_log_with_a_history_is_built_beside(
    log: EventLog, storage: DirectoryStorage, past: ArchivedPast
) -> None:
    await log.append(calls(160))
    await Projector(log).run_until_caught_up()
    await archive(log, storage)
    await trim(log, kept_count=2)
    gated = Gated(log)
    async with projecting(log, [*DEFAULT_PROJECTIONS, TOOLS], past=past, store=gated) as projector:
        await gated.is_asked.wait()
        await log.append(calls(80, first=160))
        await Projector(log).run_until_caught_up()  # the others go on
        assert await used(log) == {}
        gated.may_swap.set()
        await projector.run_until_caught_up()
        assert await used(log) == {f"chat:{n}": 30 for n in range(8)}
    assert await in_role(log, "tools", "previous") == [None] * 4


async def test_readers_of_the_old_version_go_on(log: EventLog) -> None:
    await log.append(calls(80))
    await Projector(log, [TOOLS]).run_until_caught_up()
    async with projecting(log, [TOOLS_TWICE]) as new:
        await new.run_until_caught_up()
        assert await used(log, TOOLS_TWICE) == {f"chat:{n}": 20 for n in range(8)}
        assert await used(log, TOOLS) == {f"chat:{n}": 10 for n in range(8)}
        await log.append(calls(80, first=80))
        await new.run_until_caught_up()
        assert await used(log, TOOLS_TWICE) == {f"chat:{n}": 40 for n in range(8)}
        assert await used(log, TOOLS, stored=False) == {f"chat:{n}": 20 for n in range(8)}
    await Projector(log, [TOOLS]).run_until_caught_up()
    assert await used(log, TOOLS) == {f"chat:{n}": 20 for n in range(8)}
    await drop(log, "tools")
    assert await used(log, TOOLS) == {}
    assert await used(log, TOOLS, stored=False) == {f"chat:{n}": 20 for n in range(8)}


async def test_a_new_version_says_that_another_one_is_in_the_way(log: EventLog) -> None:
    await log.append(calls(80))
    await Projector(log, [TOOLS]).run_until_caught_up()
    for partition in range(4):
        await RedisModels(log).begin(partition, Build("tools", 1, "1"))
    with pytest.raises(ConfigurationError, match="tools@2"):
        await asyncio.wait_for(Projector(log, [TOOLS_TWICE]).run_until_caught_up(), 10)


# --- poison ------------------------------------------------------------------------------------------


def poisoned() -> list[Event]:
    return [*calls(40), *calls(8, name="poison", first=40), *calls(40, first=48)]


async def test_poison_is_parked_once_however_often_it_is_folded(log: EventLog) -> None:
    lenient = Lenient()
    await log.append(poisoned())
    projections = [*DEFAULT_PROJECTIONS, lenient]
    await Projector(log, projections).run_until_caught_up()
    count = await entry_count(log)
    assert count == 88 + 8
    await rebuild(log, lenient)
    assert [each.difference async for each in verify(log, lenient)] == [None] * 4
    await state_at(log, lenient)
    assert await entry_count(log) == count
    assert await used(log, lenient) == {f"chat:{n}": 10 for n in range(8)}
    assert len((await DeadLetters(log).list(limit=50)).items) == 8


async def test_poison_of_a_first_build_is_parked_too(log: EventLog) -> None:
    lenient = Lenient()
    await log.append(poisoned())
    await Projector(log).run_until_caught_up()
    await rebuild(log, lenient)
    assert await DeadLetters(log).counts_by_reason() == {"poison": 8}


async def test_a_projection_that_stops_stops_alone_until_it_is_mended(log: EventLog) -> None:
    strict = Strict()
    await log.append(calls(40))
    projections = [*DEFAULT_PROJECTIONS, strict]
    await Projector(log, projections).run_until_caught_up()
    await log.append(poisoned()[40:])
    async with projecting(log, projections) as projector:
        with pytest.raises(ProjectionStopped, match="strict@1"):
            await projector.run_until_caught_up()

        async def others_go_on() -> bool:
            models = [model for each in await projector.status() for model in each.models]
            return not any(model.lag_count for model in models if model.name != "strict")

        await eventually(others_go_on)

        async def is_told() -> bool:
            errors = [each.last_error or "" for each in await projector.status() if each.lag_count]
            return bool(errors) and all("cannot take it" in error for error in errors)

        await eventually(is_told)
        assert await DeadLetters(log).counts_by_reason() == {}
    assert await used(log, strict) == {f"chat:{n}": 5 for n in range(8)}
    with pytest.raises(ProjectionStopped, match="strict@1"):
        await rebuild(log, strict)
    assert None not in await in_role(log, "strict", "building")
    mended = Mended()
    await rebuild(log, mended)
    assert await used(log, mended) == {f"chat:{n}": 11 for n in range(8)}
    await rollback(log, mended)
    assert await used(log, mended) == {f"chat:{n}": 11 for n in range(8)}


async def test_a_lost_group_is_made_again_where_the_serving_build_furthest_behind_stands(
    log: EventLog,
) -> None:
    """Whoever trims asks the group, and one that stopped has yet to fold what follows."""
    strict = Strict()
    await log.append(poisoned())
    projections = [*DEFAULT_PROJECTIONS, strict]
    with pytest.raises(ProjectionStopped):
        await Projector(log, projections).run_until_caught_up()
    await Projector(log).run_until_caught_up()
    partition = log.partition_of("chat:0")
    stream = log.keys.stream(partition)
    await log.client.xgroup_destroy(stream, GROUP)
    await Projector(log).run_until_caught_up()
    async with projecting(log):
        await eventually(lambda: log.client.xinfo_groups(stream))
    [group] = await log.client.xinfo_groups(stream)
    shelf = (await shelves_of(log))[partition]
    strict_build = shelf.get("strict", "serving")
    assert strict_build is not None
    assert EntryId.parse(group["last-delivered-id"]) <= shelf.checkpoint(strict_build)


# --- verify ------------------------------------------------------------------------------------------


async def first_difference(log: EventLog, projection: Projection, **more: Any) -> Verified:
    found = [each async for each in verify(log, projection, **more) if not each.agrees]
    [verified] = found
    assert verified.stored_digest != verified.folded_digest
    return verified


async def test_verify_names_what_differs_first_and_the_entries_that_touched_it(
    log: EventLog, storage: DirectoryStorage, past: ArchivedPast
) -> None:
    await log.append(calls(160))
    await Projector(log, [TOOLS]).run_until_caught_up()
    await archive(log, storage)
    await trim(log, kept_count=3)
    with pytest.raises(HistoryGap):
        _ = [each async for each in verify(log, TOOLS)]
    partition = log.partition_of("chat:0")
    build = (await in_role(log, "tools", "serving"))[partition]
    assert build is not None
    documents = log.keys.documents(partition, build.model)
    index = log.keys.index(partition, build.model, "all")
    right = await log.client.hget(documents, "chat:0")

    async def look() -> tuple[str, str, str | None, str | None, int]:
        difference = (await first_difference(log, TOOLS, past=past)).difference
        assert difference is not None
        assert difference.touched.last == sorted(difference.touched.last)
        count = difference.touched.entry_count
        return difference.kind, difference.key, difference.stored, difference.folded, count

    told = '{"chat":"chat:0","count":20}'
    await log.client.hset(documents, "chat:0", b'{"chat":"chat:0","count":21}')
    assert await look() == ("document", "chat:0", told.replace("20", "21"), told, 20)
    await log.client.hdel(documents, "chat:0")
    assert await look() == ("document", "chat:0", None, told, 20)
    await log.client.hset(documents, mapping={"chat:0": right, "!ghost": b'{"chat":"g"}'})
    assert await look() == ("document", "!ghost", '{"chat":"g"}', None, 0)
    await log.client.hdel(documents, "!ghost")
    await log.client.zadd(index, {"ghost": 99})
    kind, key, *_, count = await look()
    assert (kind, key, count) == ("index", "ghost", 0)
    await log.client.zrem(index, "ghost")
    await log.client.zadd(log.keys.index(partition, build.model, "#tool"), {"any": 77})
    assert (await look())[0] == "count"
    assert await rebuild(log, TOOLS, past=past)
    assert [each.difference async for each in verify(log, TOOLS, past=past)] == [None] * 4


async def test_verify_finds_a_wrong_feed(log: EventLog) -> None:
    await log.append([MessageReceived(conversation="c", text=f"{n}") for n in range(30)])
    await Projector(log).run_until_caught_up()
    partition = log.partition_of("c")
    build = (await in_role(log, "history", "serving"))[partition]
    assert build is not None
    await log.client.lset(log.keys.feed(partition, build.model, "c"), 3, b"5-5 {}")
    difference = (await first_difference(log, HISTORY)).difference
    assert difference is not None
    assert (difference.kind, difference.key) == ("feed", "c")
    assert difference.touched.entry_count == 30


async def test_verify_works_while_a_projector_does(log: EventLog) -> None:
    events = random_events(random.Random(5), 600)
    await log.append([*events[:100]])
    await Projector(log).run_until_caught_up()
    async with projecting(log):

        async def append() -> None:
            for start in range(100, 600, 20):
                await log.append([*events[start : start + 20]])

        appending = asyncio.create_task(append())
        while not appending.done():
            for projection in DEFAULT_PROJECTIONS:
                async for verified in verify(log, projection):
                    assert verified.agrees, verified
        await appending
    assert await entry_count(log) == 600


async def test_verify_says_that_there_is_nothing_to_verify(log: EventLog) -> None:
    await log.append(calls(1))
    with pytest.raises(BuildMissing, match="tools@1"):
        _ = [each async for each in verify(log, TOOLS)]


# --- time travel -------------------------------------------------------------------------------------


async def test_the_state_at_a_time_or_place_is_the_fold_of_what_was_there(
    log: EventLog, storage: DirectoryStorage, past: ArchivedPast
) -> None:
    events = random_events(random.Random(6), 300, chat_count=9)
    moments: list[tuple[int, int]] = []
    for start in range(0, 300, 60):
        await log.append([*events[start : start + 60]])
        last_ms = max(head.ms for head in await log.heads())
        moments.append((last_ms, start + 60))

        async def has_passed(ms: int = last_ms) -> bool:
            seconds, microseconds = await log.client.time()
            return seconds * 1000 + microseconds // 1000 > ms

        await eventually(has_passed)
    await archive(log, storage)
    await trim(log, kept_count=5)
    for ms, count in moments:
        models = await state_at(log, SESSIONS, Moment(time_us=ms * 1000), past=past)
        assert await sessions_in(log, models) == oracle(events[:count])["sessions"].keys()
        assert await Sessions(log, models).counts() == {
            **dict.fromkeys(await Sessions(log, models).counts(), 0),
            **oracle(events[:count])["statuses"],
        }
    of = [[e for e in events if log.partition_of(e.conversation) == p] for p in range(4)]
    for places in ({0: 5}, {1: 30, 2: 7}, {p: len(each) for p, each in enumerate(of)}):
        models = await state_at(log, SESSIONS, Moment(sequences=places), past=past)
        seen = [event for p, n in places.items() for event in of[p][:n]]
        assert await sessions_in(log, models) == oracle(seen)["sessions"].keys()
    with pytest.raises(InvalidQuery):
        await state_at(log, SESSIONS, Moment(sequences={4: 1}), past=past)
    with pytest.raises(HistoryGap):
        await state_at(log, SESSIONS)
    assert await entry_count(log) == 300


async def sessions_in(log: EventLog, models: MemoryModels) -> set[str]:
    page = await Sessions(log, models).list(limit=500)
    return {session.id for session in page.items}
