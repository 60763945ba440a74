"""Retention on a real server: only what nobody needs goes, and everybody still reads right."""

from __future__ import annotations

from pathlib import Path

import pytest

from analytics import (
    ArchivedPast,
    Archiver,
    Catalogue,
    DirectoryStorage,
    Policy,
    Retention,
    Rolling,
    Warehouse,
)
from analytics.retention import Plan
from consumers import Handlers, Worker, groups, retire
from consumers.registration import register
from eventlog import EventLog
from eventlog.cluster import nodes_of
from eventlog.errors import HistoryGap
from eventlog.exclusive_lease import ExclusiveLease
from eventlog.ids import START, EntryId
from eventlog.stream_rewriting import LEASE_GROUP
from projections import History, Sessions, rebuild, state_at
from projections.building import rebuilding
from projections.projecting.projector import Projector
from projections.views.history import HISTORY
from projections.views.sessions import SESSIONS
from tests.logs import conversation_in, message, messages
from tests.support import RawServer, eventually

AT_ONCE = Policy(age_ms=0, recent_ms=0)
"""Everything is to go that may."""

P = 1
"""The partition that most tests append to."""


class World:
    """A log with an archive, where all that reads it has read everything when it is told to."""

    def __init__(self, log: EventLog, storage: DirectoryStorage) -> None:
        self.log = log
        self.storage = storage
        self.chat = conversation_in(log, P)

    async def append(self, count: int) -> None:
        await self.log.append(messages(self.chat, count))

    async def project(self) -> None:
        await Projector(self.log).run_until_caught_up()

    async def archive(self, max_rows: int = 1_000_000) -> None:
        async with Archiver(self.log, self.storage, rolling=Rolling(max_rows=max_rows)) as archiver:
            await archiver.run_once()

    async def settle(self) -> None:
        await self.project()
        await self.archive()

    async def plan(self, policy: Policy = AT_ONCE) -> Plan:
        return await Retention(self.log, self.storage, policy).plan()

    async def trim(self, policy: Policy = AT_ONCE) -> int:
        """Apply it; return how many entries of the partition went."""
        applied = await Retention(self.log, self.storage, policy).apply()
        return applied.trimmed[P]

    async def left(self) -> list[int]:
        return [entry.id.n for entry in await self.log.read_raw(P, START, 1_000_000)]

    async def holders(self, policy: Policy = AT_ONCE) -> list[str]:
        """Return who holds back what is to go, by kind and name."""
        plan = await self.plan(policy)
        return [" ".join(filter(None, held.pin[:2])) for held in plan.holders]


@pytest.fixture
async def world(log: EventLog, tmp_path: Path) -> World:
    return World(log, DirectoryStorage(tmp_path / "archive"))


class TestFloor:
    async def test_what_all_have_read_and_the_archive_holds_goes(self, world):
        await world.append(30)
        await world.settle()
        await world.append(5)
        assert await world.trim() == 30
        assert await world.left() == [31, 32, 33, 34, 35]
        assert await world.trim() == 0

    async def test_nothing_goes_that_is_not_archived(self, world):
        await world.append(10)
        await world.project()
        assert await world.trim() == 0
        assert await world.holders() == ["archive"]
        await world.archive()
        await world.append(10)
        await world.project()
        assert await world.trim() == 10

    async def test_nothing_goes_before_it_is_projected(self, world):
        await world.append(10)
        await world.archive()
        assert await world.trim() == 0
        assert await world.holders() == ["unprojected"]
        await world.project()
        assert await world.trim() == 10

    async def test_a_segment_that_its_archiver_did_not_acknowledge_does_not_count(self, world):
        """It may be there and not yet be on the disk."""
        await world.append(10)
        await world.settle()
        await world.log.client.xgroup_setid(world.log.keys.stream(P), "archiver", "0-0")
        assert await world.trim() == 0

    async def test_what_a_group_has_not_been_given_stays(self, world):
        await register(world.log, "g")
        await world.append(10)
        await world.settle()
        assert await world.trim() == 0
        assert await world.holders() == ["group g"]
        await Worker(world.log, "g", Handlers()).run_once()
        assert await world.trim() == 10

    async def test_what_is_pending_stays_with_all_after_it(self, world):
        """A trim where the group has read to would take what it has not acknowledged."""
        await register(world.log, "g")
        await world.append(10)
        await world.settle()
        stream = world.log.keys.stream(P)
        reply = await world.log.client.xreadgroup("g", "c", {stream: ">"})
        [(_, entries)] = reply.items() if isinstance(reply, dict) else reply
        ids = [entry_id for entry_id, _ in (entries[0] if isinstance(reply, dict) else entries)]
        await world.log.client.xack(stream, "g", *ids[:4], *ids[5:])
        assert await world.trim() == 4
        assert await world.left() == [5, 6, 7, 8, 9, 10]
        await world.log.client.xack(stream, "g", ids[4])
        assert await world.trim() == 6

    async def test_a_group_that_is_on_the_stream_and_not_registered_counts(self, world):
        await world.append(10)
        await world.settle()
        await world.log.client.xgroup_create(world.log.keys.stream(P), "stranger", "0")
        assert await world.trim() == 0
        await retire(world.log, "stranger", "nobody knows it")
        assert await world.trim() == 10

    async def test_a_registered_group_that_the_server_lost_is_waited_for(self, world):
        await register(world.log, "g")
        await world.append(10)
        await Worker(world.log, "g", Handlers()).run_once()
        await world.settle()
        await world.log.client.xgroup_destroy(world.log.keys.stream(P), "g")
        assert await world.trim() == 0
        assert await world.holders() == ["lost_group g"]
        await Worker(world.log, "g", Handlers()).run_once()
        assert await world.trim() == 10

    async def test_a_retired_group_is_waited_for_no_more(self, world):
        await register(world.log, "g")
        await world.append(10)
        await world.settle()
        assert await world.trim() == 0
        await retire(world.log, "g", "the bot is gone")
        assert await world.trim() == 10

    async def test_a_group_registered_after_the_groups_were_read(self, world):
        """Its group is on the stream before it is registered, and the script asks the stream."""
        await world.append(10)
        await world.settle()
        retention = Retention(world.log, world.storage, AT_ONCE)
        known = await retention._groups()
        archived = await retention._archived()
        plan = await retention._planned(known, archived)
        await register(world.log, "late")
        trimmed = await retention._trim(plan.partitions[P], archived[P], known)
        assert trimmed == 0
        assert await Worker(world.log, "late", Handlers()).run_once() == 10

    @pytest.mark.parametrize("role", ["building", "previous"])
    async def test_a_build_on_the_shelf_is_asked_in_every_role(self, world, role):
        await world.append(10)
        await world.settle()
        if role == "building":
            await rebuilding.begin(world.log, SESSIONS)
        else:
            await rebuild(world.log, SESSIONS)
            await world.append(10)
            await world.settle()
        [held] = await world.holders()
        assert held.startswith(f"build {SESSIONS.model}.")
        assert held.endswith(role)
        assert await world.trim() == (0 if role == "building" else 10)
        give_up = rebuilding.cancel if role == "building" else rebuilding.drop
        await give_up(world.log, "sessions")
        assert await world.trim() == 10

    async def test_a_projection_that_no_program_has_any_more(self, world):
        await world.append(10)
        await Projector(world.log, [HISTORY, SESSIONS]).run_until_caught_up()
        await world.append(10)
        await Projector(world.log, [HISTORY]).run_until_caught_up()
        await world.archive()
        assert await world.trim() == 10
        [held] = await world.holders()
        assert held.startswith("build sessions@")
        assert held.endswith(" serving")
        await rebuilding.retire(world.log, "sessions")
        await world.append(1)
        await Projector(world.log, [HISTORY]).run_until_caught_up()
        await world.archive()
        assert await world.trim() == 11

    async def test_what_is_being_rewritten_is_left_alone(self, world):
        await world.append(10)
        await world.settle()
        async with ExclusiveLease(world.log, LEASE_GROUP, P, "me").hold():
            assert await world.trim() == 0
            assert await world.holders() == ["eraser me"]
        assert await world.trim() == 10


class TestArchiveOfAnotherLog:
    async def test_of_a_server_that_was_flushed(self, world):
        """What is known of the archive is of a log that is gone; its numbers fit nevertheless."""
        await world.append(20)
        await world.settle()
        for node in await nodes_of(world.log.client):
            await node.flushdb()
        await world.append(30)
        await world.log.client.xgroup_create(world.log.keys.stream(P), "archiver", "$")
        await world.project()
        assert await world.trim() == 0
        assert any(who.startswith("foreign ") for who in await world.holders())

    async def test_of_a_server_that_was_put_back(self, world):
        await world.append(10)
        await world.project()
        dumped = {
            key: await world.log.client.dump(key)
            async for key in world.log.client.scan_iter(f"{{{world.log.keys.log}*")
        }
        await world.append(10)
        await world.settle()
        for key, value in dumped.items():
            await world.log.client.restore(key, 0, value, replace=True)
        stream = world.log.keys.stream(P)
        await world.log.client.xgroup_create(stream, "archiver", "99999999999999-99")
        assert await world.trim() == 0
        await world.append(30)
        await world.project()
        assert await world.trim() == 0


class TestPolicy:
    async def test_by_age(self, world):
        await world.append(10)
        await world.settle()
        last_ms = (await world.log.heads())[P].ms
        await eventually(lambda: world.log.clock.now_us() // 1000 > last_ms + 30)
        await world.append(5)
        await world.settle()
        entries = await world.log.read_raw(P, START, 100)
        age_ms = world.log.clock.now_us() // 1000 - entries[10].id.ms
        assert await world.trim(Policy(age_ms=age_ms + 10, recent_ms=0)) == 10
        assert await world.trim(Policy(age_ms=10**9, recent_ms=0)) == 0

    async def test_by_count_over_all_partitions(self, world):
        other = conversation_in(world.log, 2)
        await world.append(300)
        await world.log.append(messages(other, 100))
        await world.settle()
        policy = Policy(age_ms=10**9, max_entries=100, recent_ms=0)
        applied = await Retention(world.log, world.storage, policy).apply()
        assert applied.trimmed == {0: 0, 1: 225, 2: 75, 3: 0}

    async def test_by_memory(self, world):
        await world.append(3000)
        await world.settle()
        before = (await world.plan()).stream_bytes
        budget = before // 3
        plan = await world.plan(Policy(10**9, None, budget, recent_ms=0))
        assert await world.trim(Policy(10**9, None, budget, recent_ms=0)) == plan.goes_count
        after = (await world.plan()).stream_bytes
        assert after == pytest.approx(budget, rel=0.1)
        assert before - after == pytest.approx(plan.frees_bytes, rel=0.1)

    async def test_what_came_just_now_stays(self, world):
        await world.append(10)
        await world.settle()
        assert await world.trim(Policy(age_ms=0)) == 0

    async def test_the_default_is_a_week(self, world):
        policy = Policy.of(world.log.settings)
        assert policy == Policy(7 * 24 * 3600 * 1000, None, None)


class TestReaders:
    async def test_sequences_versions_and_ids_go_on_after_everything_went(self, world):
        first = await world.log.append(message(world.chat, 0, id="once"))
        await world.append(9)
        await world.settle()
        assert await world.trim() == 10
        assert await world.left() == []
        again = await world.log.append(message(world.chat, 0, id="once"))
        assert (again.duplicate, again.id) == (True, first.id)
        assert (await world.log.append(message(world.chat, "next"))).sequence == 11
        await world.settle()
        assert await world.trim() == 1

    async def test_history_goes_on_in_the_archive(self, world):
        await world.append(700)
        await world.settle()
        await world.trim()
        history = History(world.log, past=ArchivedPast(world.storage))
        page = await history.last(world.chat, limit=700)
        assert [entry.sequence for entry in page.entries] == list(range(1, 701))

    async def test_live_reads_need_no_trimmed_entry(self, world):
        await world.append(10)
        await world.settle()
        await world.append(10)
        await world.trim()
        page = await History(world.log).last(world.chat, limit=20)
        assert len(page.entries) == 20
        assert await Sessions(world.log).get("s") is None

    async def test_a_query_sees_each_entry_once(self, world):
        await world.append(50)
        await world.settle()
        async with Warehouse.open(world.log, world.storage.root) as warehouse:
            for _ in range(3):
                await world.append(10)
                await world.settle()
                await world.trim()
                await world.append(3)
                counted = "SELECT count(*), count(DISTINCT sequence), max(sequence) FROM events"
                [row] = (await warehouse.query(counted)).to_pylist()
                head = (await world.log.heads())[P]
                assert list(row.values()) == [head.n] * 3

    async def test_a_tail_whose_place_was_trimmed_says_so_at_once(self, world):
        tail = await world.log.tail("start")
        cursor = str(tail.cursor)
        await world.append(10)
        await world.settle()
        await world.trim()
        with pytest.raises(HistoryGap, match="entries 1 to 10 were trimmed"):
            await anext(await world.log.tail(cursor))

    async def test_a_read_below_the_trim_says_so(self, world):
        await world.append(10)
        after = (await world.log.read(partition=P))[2].id
        await world.settle()
        await world.append(3)
        await world.trim()
        assert [e.sequence for e in await world.log.read(partition=P)] == [11, 12, 13]
        for reverse in (False, True):
            with pytest.raises(HistoryGap, match="entries 4 to 10"):
                await world.log.read(partition=P, after=after, reverse=reverse)
            with pytest.raises(HistoryGap, match="entries 4 to 10"):
                await world.log.read(conversation=world.chat, after=after, reverse=reverse)
        await world.settle()
        await world.trim()
        with pytest.raises(HistoryGap, match="entries 4 to 13"):
            await world.log.read(partition=P, after=after)
        head = (await world.log.heads())[P]
        assert await world.log.read(partition=P, after=head) == []

    async def test_a_group_that_is_new_begins_with_what_there_is_and_says_so(self, world, caplog):
        await world.append(10)
        await world.settle()
        await world.trim()
        await world.append(5)
        await register(world.log, "g")
        [record] = [r for r in caplog.records if r.event == "group_begins_late"]
        assert record.fields == {"group": "g", "missing": 10}
        [found] = [each for each in await groups(world.log) if each.name == "g"]
        assert found.lag_count == 5
        assert await Worker(world.log, "g", Handlers()).run_once() == 5

    async def test_a_group_whose_entries_were_trimmed_by_hand_stops(self, world):
        await world.append(10)
        await register(world.log, "g")
        await world.log.client.xtrim(world.log.keys.stream(P), maxlen=4, approximate=False)
        with pytest.raises(HistoryGap, match="entries 1 to 6"):
            await Worker(world.log, "g", Handlers()).run_once()

    async def test_verify_goes_on_where_the_archive_has_taken_over(self, world):
        await world.append(20)
        await world.settle()
        await world.append(20)
        past = ArchivedPast(world.storage)
        read = past.read

        async def read_then_trim(*arguments, **named):
            async for stretch in read(*arguments, **named):
                yield stretch
            await world.settle()
            await world.trim()

        past.read = read_then_trim
        models = await state_at(world.log, HISTORY, past=past)
        page = await History(world.log, models).last(world.chat, limit=100)
        assert len(page.entries) == 40


async def test_a_full_server_is_trimmed(tmp_path: Path) -> None:
    with RawServer(tmp_path) as server:
        async with EventLog.open(server.url, partition_count=2) as log:
            world = World(log, DirectoryStorage(tmp_path / "archive"))
            await world.append(2000)
            await world.settle()
            await log.client.config_set("maxmemory", "1mb")
            assert await world.trim() == 2000


async def test_positions_only_matter_by_sequence(world: World) -> None:
    """Entries of one ms, as bulk appends leave them."""
    for n in range(1, 11):
        raw = world.log.codec.encode(message(world.chat, n))
        await world.log.client.xadd(world.log.keys.stream(P), {"e": raw}, id=f"77-{n}")
    await world.log.client.set(world.log.keys.head(P), "77-10")
    await world.settle()
    assert Catalogue(world.storage).coverage(P).position == EntryId(77, 10)
    assert await world.trim() == 10
