from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from eventlog import START, EntryId, EventLog, MessageReceived, RawEntry
from eventlog.errors import HistoryGap, LogUnavailable
from eventlog.group import GroupReader
from tests.support import RawServer, turns

P = 2
"""The partition that all of this happens in."""


async def fill(log: EventLog, count: int) -> list[RawEntry]:
    """Append `count` entries and return all of the partition's."""
    name = next(f"c{n}" for n in range(1000) if log.partition_of(f"c{n}") == P)
    await log.append([MessageReceived(conversation=name, text=str(n)) for n in range(count)])
    return await log.read_raw(P, START, 1_000_000)


async def ack(log: EventLog, entries: list[RawEntry]) -> None:
    await log.client.xack(log.keys.stream(P), "g", *(str(entry.id) for entry in entries))


async def trim(log: EventLog, keep: int) -> None:
    await log.client.xtrim(log.keys.stream(P), maxlen=keep, approximate=False)


@pytest.fixture
def reader(log: EventLog) -> GroupReader:
    return GroupReader(log, "g", P)


class TestReading:
    async def test_a_new_group_starts_at_its_position(self, log, reader):
        entries = await fill(log, 10)
        await reader.ensure(entries[3].id)
        assert await reader.new(4) == entries[4:8]
        assert await reader.new(100) == entries[8:]
        assert await reader.new(100) == []

    async def test_it_can_come_before_the_first_entry(self, log, reader):
        await reader.ensure(START)
        assert await reader.new(10) == []
        entries = await fill(log, 3)
        assert entries[0].id.n == 1
        assert await reader.new(10) == entries

    async def test_ensuring_again_moves_nothing(self, log, reader):
        entries = await fill(log, 10)
        await reader.ensure(START)
        await reader.new(4)
        for position in (START, entries[3].id, entries[9].id):
            await reader.ensure(position)
        assert await reader.new(100) == entries[4:]

    async def test_the_next_owner_finds_what_the_last_left(self, log, reader):
        entries = await fill(log, 10)
        await reader.ensure(START)
        await ack(log, (await reader.new(6))[:2])
        successor = GroupReader(log, "g", P)
        await successor.ensure(entries[1].id)
        assert await successor.pending(START, 100) == entries[2:6]
        assert await successor.pending(START, 100) == entries[2:6], "until it is acknowledged"
        assert await successor.pending(START, 3) == entries[2:5]
        assert await successor.pending(entries[4].id, 100) == entries[5:6]
        await ack(log, entries[2:6])
        assert await successor.pending(START, 100) == []
        assert await successor.new(100) == entries[6:]

    async def test_waiting_ends_with_the_first_entry(self, log, reader):
        await reader.ensure(START)
        waiting = asyncio.create_task(reader.new(10, block_ms=10_000))
        await turns()
        entries = await fill(log, 1)
        assert await asyncio.wait_for(waiting, 5) == entries

    async def test_waiting_ends_in_time(self, reader):
        await reader.ensure(START)
        assert await asyncio.wait_for(reader.new(10, block_ms=1), 5) == []
        assert await asyncio.wait_for(reader.new(10, block_ms=0), 5) == []

    async def test_a_group_per_partition_and_name(self, log):
        entries = await fill(log, 3)
        for name in ("g", "h"):
            other = GroupReader(log, name, P)
            await other.ensure(START)
            assert await other.new(10) == entries
        elsewhere = GroupReader(log, "g", 0)
        await elsewhere.ensure(START)
        assert await elsewhere.new(10) == []

    async def test_moving_skips_or_repeats(self, log, reader):
        entries = await fill(log, 10)
        await reader.ensure(START)
        await reader.move(entries[7].id)
        assert await reader.new(100) == entries[8:]
        await reader.move(START)
        assert await reader.new(100) == entries

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
        for call in (reader.new(1), reader.pending(START, 1), reader.move(START)):
            with pytest.raises(HistoryGap, match="'g' is gone"):
                await call

    async def test_it_is_made_again_where_its_work_ended_never_at_the_end(self, log, reader):
        entries = await fill(log, 10)
        await reader.ensure(START)
        await reader.new(6)
        await log.client.xgroup_destroy(log.keys.stream(P), "g")
        await reader.ensure(entries[3].id)
        assert await reader.pending(START, 100) == []
        assert await reader.new(100) == entries[4:]

    async def test_a_stream_that_is_gone_is_no_group_either(self, reader):
        with pytest.raises(HistoryGap, match="gone"):
            await reader.new(1)


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
        assert await reader.new(100) == entries[6:]

    async def test_everything_was_trimmed(self, log, reader):
        entries = await fill(log, 10)
        await trim(log, 0)
        with pytest.raises(HistoryGap, match="entries 9 to 10 are gone"):
            await reader.ensure(entries[7].id)
        await reader.ensure(entries[9].id)
        assert await reader.new(10) == []
        assert [e.id.n for e in await fill(log, 2)] == [11, 12]
        assert [e.id.n for e in await reader.new(10)] == [11, 12]

    async def test_a_pending_entry_was_trimmed(self, log, reader):
        await fill(log, 5)
        await reader.ensure(START)
        await reader.new(3)
        await trim(log, 3)
        with pytest.raises(HistoryGap, match="was trimmed before"):
            await reader.pending(START, 10)


async def test_without_a_server(tmp_path: Path):
    with RawServer(tmp_path) as server:
        async with EventLog.open(server.url, max_retries=0) as log:
            reader = GroupReader(log, "g", P)
            await reader.ensure(START)
            server.kill()
            for call in (
                reader.ensure(START),
                reader.new(1),
                reader.pending(START, 1),
                reader.move(START),
                reader.lag(START),
            ):
                with pytest.raises(LogUnavailable):
                    await call
