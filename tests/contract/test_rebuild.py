"""Building read models beside those that serve, on a real server, from a real archive."""

from __future__ import annotations

import asyncio
import random

import pytest

from analytics import DirectoryStorage
from analytics.past import ArchivedPast
from eventlog.clock import SystemClock
from eventlog.errors import ConfigurationError, HistoryGap
from eventlog.ids import START
from eventlog.lease import LeaseKeeper
from eventlog.log import EventLog
from eventlog.tasks import end
from eventlog.vocabulary import MessageReceived
from projections.building import builder
from projections.building.builder import Builder, Progress, builders_of
from projections.building.rebuilding import Rebuilt, begin, finish, rebuild
from projections.builtin import DEFAULT_PROJECTIONS
from projections.projecting.projector import Projector
from projections.storing.batch import Commit, CommitOutcome
from projections.storing.build import Build
from projections.storing.redis_models import RedisModels
from projections.views.sessions import SESSIONS
from tests.building import (
    Gated,
    Watched,
    archive,
    entry_count,
    in_role,
    projecting,
    shelves_of,
    stored_models,
    trim,
)
from tests.conftest import IS_CLUSTER
from tests.own_projections import TOOLS, TOOLS_TWICE, calls, used
from tests.projecting import chats_of, oracle, random_events, read_out
from tests.support import eventually


class Hasty(SystemClock):
    """A clock on which nobody sleeps for long."""

    async def sleep(self, duration_s: float) -> None:
        await super().sleep(min(duration_s, 0.05))


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
    assert await read_out(log, chats_of(events), "stored", past=past) == oracle(events)
    assert await entry_count(log) == 500, "a build writes nothing into the log"
    await Projector(log).run_until_caught_up()
    assert await read_out(log, chats_of(events), "live", past=past) == oracle(events)


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
        assert await read_out(log, chats_of(events), "stored", past=past) == oracle(events)


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


async def test_a_helper_that_comes_after_the_swap_begins_nothing(log: EventLog) -> None:
    await log.append(calls(80))
    nothing = await finish(log, TOOLS)
    assert (nothing.model, nothing.swept_key_count) == ("tools@1", 0)
    assert all(shelf.is_empty for shelf in await shelves_of(log))
    await Projector(log, [TOOLS]).run_until_caught_up()
    await begin(log, TOOLS)
    begun = await in_role(log, "tools", "building")
    assert None not in begun
    await finish(log, TOOLS)
    before = [shelf.builds for shelf in await shelves_of(log)]
    stored = await stored_models(log, "tools")
    late = Watched(log)
    assert await finish(log, TOOLS, store=late) == Rebuilt("tools@1", 80, 0)
    assert late.commits == []
    assert [shelf.builds for shelf in await shelves_of(log)] == before
    assert await in_role(log, "tools", "serving") == begun
    assert await stored_models(log, "tools") == stored


# --- beside those that serve -------------------------------------------------------------------------


@pytest.mark.skipif(IS_CLUSTER, reason="a cluster swaps one partition after the other")
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
