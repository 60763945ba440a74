"""What an operator does with builds on a real server: roll back, cancel, drop, retire, change versions."""

from __future__ import annotations

import asyncio
import random

import pytest

from eventlog.errors import BuildMissing, ConfigurationError
from eventlog.ids import START, EntryId
from eventlog.lease import LeaseKeeper
from eventlog.log import EventLog
from eventlog.past import Stretch
from eventlog.tasks import end
from eventlog.vocabulary import MessageReceived
from projections.building.builder import builders_of
from projections.building.rebuilding import begin, cancel, drop, rebuild, retire, rollback
from projections.building.verifying import verify
from projections.builtin import DEFAULT_PROJECTIONS
from projections.folding.pipeline import BeginAnew, Pipeline
from projections.folding.target import Target
from projections.projecting.projector import Projector
from projections.storing.batch import Commit, CommitOutcome
from projections.storing.build import Build
from projections.storing.redis_models import RedisModels
from projections.views.history import HISTORY
from projections.views.sessions import SESSIONS
from tests.building import Gated, in_role, named_models, projecting, stored_models
from tests.own_projections import TOOLS, TOOLS_TWICE, calls, used
from tests.projecting import random_events

# --- rolling back ------------------------------------------------------------------------------------


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


# --- giving up ---------------------------------------------------------------------------------------


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


async def test_what_is_retired_is_deleted_in_every_role_and_holds_the_group_back_no_more(
    log: EventLog,
) -> None:
    """Whoever trims asks the group, and what no program projects would hold it back for ever."""
    await log.append(calls(80, chat_count=40))
    await Projector(log, [*DEFAULT_PROJECTIONS, TOOLS]).run_until_caught_up()
    await rebuild(log, TOOLS)
    await begin(log, TOOLS)
    left_at = await log.heads()
    await log.append(calls(80, chat_count=40, first=80))
    await Projector(log).run_until_caught_up()
    assert await group_positions(log) == left_at
    others = [len(await stored_models(log, each.name)) for each in DEFAULT_PROJECTIONS]

    assert await retire(log, "tools") > 0
    assert await stored_models(log, "tools") == set()
    assert await fields_of(log, "tools") == set()
    assert [len(await stored_models(log, each.name)) for each in DEFAULT_PROJECTIONS] == others
    assert await used(log) == {}
    with pytest.raises(BuildMissing):
        await retire(log, "tools")

    await log.append(calls(80, chat_count=40, first=160))
    await Projector(log).run_until_caught_up()
    assert await group_positions(log) == await log.heads()
    await Projector(log, [*DEFAULT_PROJECTIONS, TOOLS]).run_until_caught_up()
    assert await used(log) == {f"chat:{n}": 6 for n in range(40)}, "it may be new again"


async def group_positions(log: EventLog) -> list[EntryId]:
    """Return how far the projectors' group stands, by partition."""
    found = []
    for partition in range(log.partition_count):
        [group] = await log.client.xinfo_groups(log.keys.stream(partition))
        found.append(EntryId.parse(group["last-delivered-id"]))
    return found


async def fields_of(log: EventLog, name: str) -> set[str]:
    """Return what any shelf says of a projection: roles and checkpoints."""
    fields = [
        field.decode()
        for partition in range(log.partition_count)
        for field in await log.client.hkeys(log.keys.shelf(partition))
    ]
    return {field for field in fields if field.startswith((f"{name}:", f"{name}@"))}


# --- versions ----------------------------------------------------------------------------------------


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
