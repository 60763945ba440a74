"""A group in one partition: that it is there, where it stands, what it may not miss."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventlog import START, EntryId, EventLog, MessageReceived, RawEntry
from eventlog.errors import HistoryGap, LogUnavailable
from eventlog.group import GroupReader
from tests.support import RawServer

P = 2
"""The partition that all of this happens in."""


async def fill(log: EventLog, count: int) -> list[RawEntry]:
    """Append `count` entries and return all of the partition's."""
    name = next(f"c{n}" for n in range(1000) if log.partition_of(f"c{n}") == P)
    await log.append([MessageReceived(conversation=name, text=str(n)) for n in range(count)])
    return await log.read_raw(P, START, 1_000_000)


async def stands_at(log: EventLog) -> EntryId:
    """Return the last entry that the server has delivered to the group."""
    [group] = await log.client.xinfo_groups(log.keys.stream(P))
    return EntryId.parse(group["last-delivered-id"])


async def trim(log: EventLog, keep: int) -> None:
    await log.client.xtrim(log.keys.stream(P), maxlen=keep, approximate=False)


@pytest.fixture
def reader(log: EventLog) -> GroupReader:
    return GroupReader(log, "g", P)


class TestPlace:
    async def test_a_new_group_starts_at_its_position(self, log, reader):
        entries = await fill(log, 10)
        await reader.ensure(entries[3].id)
        assert await stands_at(log) == entries[3].id

    async def test_it_can_come_before_the_first_entry(self, log, reader):
        await reader.ensure(START)
        assert await stands_at(log) == START
        entries = await fill(log, 3)
        assert entries[0].id.n == 1

    async def test_ensuring_again_moves_nothing(self, log, reader):
        entries = await fill(log, 10)
        await reader.ensure(entries[3].id)
        for position in (START, entries[2].id, entries[9].id):
            await reader.ensure(position)
        assert await stands_at(log) == entries[3].id

    async def test_creating_says_whether_it_was_there(self, log, reader):
        entries = await fill(log, 3)
        assert await reader.create(entries[1].id)
        assert not await reader.create(START)
        assert await stands_at(log) == entries[1].id

    async def test_the_server_knows_how_many_were_read(self, log, reader):
        entries = await fill(log, 10)
        await reader.create(entries[6].id)
        [group] = await log.client.xinfo_groups(log.keys.stream(P))
        assert (group["entries-read"], group["lag"]) == (7, 3)

    async def test_checking_returns_the_head(self, log, reader):
        assert await reader.check(START) == START
        entries = await fill(log, 4)
        assert await reader.check(entries[1].id) == entries[3].id

    async def test_a_group_per_partition_and_name(self, log, reader):
        await fill(log, 3)
        await reader.ensure(START)
        await GroupReader(log, "h", P).ensure(START)
        await GroupReader(log, "g", 0).ensure(START)
        assert len(await log.client.xinfo_groups(log.keys.stream(P))) == 2

    async def test_moving_skips_or_repeats(self, log, reader):
        entries = await fill(log, 10)
        await reader.ensure(START)
        await reader.move(entries[7].id)
        assert await stands_at(log) == entries[7].id
        await reader.move(START)
        assert await stands_at(log) == START

    async def test_lag_is_a_number_always(self, log, reader):
        assert await reader.lag(START) == 0
        entries = await fill(log, 10)
        assert await reader.lag(START) == 10
        assert await reader.lag(entries[3].id) == 6
        await trim(log, 2)
        await log.client.xdel(log.keys.stream(P), str(entries[9].id))
        assert await reader.lag(entries[3].id) == 6
        assert await reader.lag(EntryId(entries[9].id.ms, 99)) == 0


class TestLostGroup:
    async def test_its_reader_hears_of_it(self, log, reader):
        await fill(log, 3)
        await reader.ensure(START)
        await log.client.xgroup_destroy(log.keys.stream(P), "g")
        with pytest.raises(HistoryGap, match="'g' is gone"):
            await reader.move(START)

    async def test_it_is_made_again_where_its_work_ended_never_at_the_end(self, log, reader):
        entries = await fill(log, 10)
        await reader.ensure(START)
        await log.client.xgroup_destroy(log.keys.stream(P), "g")
        await reader.ensure(entries[3].id)
        assert await stands_at(log) == entries[3].id

    async def test_a_stream_that_is_gone_is_made_again_empty(self, log, reader):
        await reader.ensure(START)
        await log.client.delete(log.keys.stream(P))
        await reader.ensure(START)
        assert await stands_at(log) == START


class TestHistoryGap:
    async def test_the_log_ends_before_the_position(self, log, reader):
        entries = await fill(log, 5)
        beyond = EntryId(entries[-1].id.ms, 6)
        with pytest.raises(HistoryGap, match=r"ends at .*'g' has processed up to"):
            await reader.ensure(beyond)
        assert not await log.client.xinfo_groups(log.keys.stream(P))

    async def test_the_log_was_emptied(self, log, reader):
        entries = await fill(log, 5)
        await log.client.delete(log.keys.stream(P), log.keys.head(P), *log.keys.dedup(P))
        with pytest.raises(HistoryGap, match="ends at 0-0"):
            await reader.ensure(entries[2].id)

    async def test_the_log_was_emptied_and_filled_anew(self, log, reader):
        old = EntryId((await fill(log, 5))[-1].id.ms - 1000, 5)
        await log.client.delete(log.keys.stream(P), log.keys.head(P), *log.keys.dedup(P))
        entries = await fill(log, 3)
        assert entries[-1].id > old
        with pytest.raises(HistoryGap, match=r"ends at .*-3"):
            await reader.ensure(old)

    async def test_entries_after_the_position_were_trimmed(self, log, reader):
        entries = await fill(log, 10)
        await trim(log, 4)
        for position, missing in ((START, "1 to 6"), (entries[4].id, "6 to 6")):
            with pytest.raises(HistoryGap, match=f"entries {missing} are gone"):
                await reader.ensure(position)
        await reader.ensure(entries[5].id)
        assert await stands_at(log) == entries[5].id

    async def test_everything_was_trimmed(self, log, reader):
        entries = await fill(log, 10)
        await trim(log, 0)
        with pytest.raises(HistoryGap, match="entries 9 to 10 are gone"):
            await reader.ensure(entries[7].id)
        await reader.ensure(entries[9].id)
        assert [e.id.n for e in await fill(log, 2)] == [11, 12]


async def test_without_a_server(tmp_path: Path):
    with RawServer(tmp_path) as server:
        async with EventLog.open(server.url, max_retries=0) as log:
            reader = GroupReader(log, "g", P)
            await reader.ensure(START)
            server.kill()
            for call in (
                reader.ensure(START),
                reader.check(START),
                reader.create(START),
                reader.move(START),
                reader.lag(START),
            ):
                with pytest.raises(LogUnavailable):
                    await call
