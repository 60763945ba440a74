"""`append.lua` on a real server: clocks, windows, memory, disks."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from eventlog import START, EntryId, Event, EventLog, MessageReceived, SessionTouched
from eventlog.cluster import nodes_of
from eventlog.errors import (
    EventLogError,
    LogUnavailable,
    OutOfMemory,
    UnsupportedDurability,
)
from tests.support import RawServer, eventually

HOUR_MS = 3_600_000
_numbers = itertools.count(1)


def message(text: object = "", **fields: Any) -> MessageReceived:
    return MessageReceived(**{"conversation": "c", "text": str(text), **fields})


@pytest.fixture
async def one(server_url: str) -> AsyncIterator[EventLog]:
    """A log of one partition that remembers ids for a minute."""
    prefix = f"script{next(_numbers)}"
    async with EventLog.open(
        server_url, key_prefix=prefix, partition_count=1, dedup_window_s=60
    ) as log:
        yield log


async def ids(log: EventLog) -> list[EntryId]:
    return [entry.id for entry in await log.read_raw(0, START, 1_000_000)]


async def set_head_ms(log: EventLog, ms: int) -> None:
    """Make the last entry as of `ms`, as a server's clock that has since stepped back leaves it."""
    [head] = await log.heads()
    await log.client.set(log.keys.head(0), str(EntryId(ms, head.n)))


class TestClock:
    async def test_ids_go_on_from_a_head_in_the_future(self, one):
        first = await one.append(message(1))
        future_ms = first.id.ms + 24 * HOUR_MS
        await set_head_ms(one, future_ms)
        results = [await one.append(message(n)) for n in range(3)]
        assert [r.id for r in results] == [EntryId(future_ms, n) for n in (2, 3, 4)]
        assert await ids(one) == [first.id, *(r.id for r in results)]
        assert await one.heads() == [EntryId(future_ms, 4)]

    async def test_ids_are_remembered_whichever_way_the_clock_stepped(self, one):
        event = message()
        await set_head_ms(one, (await one.append(event)).id.ms + 59_000)
        assert (await one.append(event)).duplicate
        later = message()
        original = await one.append(later)
        assert (await one.append(later)).id == original.id

    async def test_entries_of_one_batch_share_the_server_s_time(self, one):
        before_s, _ = await one.client.time()
        results = await one.append([message(n) for n in range(500)])
        after_s, _ = await one.client.time()
        [ms] = {r.id.ms for r in results}
        assert before_s * 1000 <= ms <= (after_s + 1) * 1000


class TestWindow:
    async def test_an_id_is_remembered_for_the_window_and_no_more_than_two(self, one):
        event = message()
        await one.append(event)
        (lived,) = [k for k in one.keys.dedup(0) if await one.client.exists(k)]
        left_ms = await one.client.pttl(lived)
        assert 60_000 < left_ms <= 120_000
        assert await one.client.hkeys(lived) == [event.id.encode()]

    async def test_it_is_looked_for_in_this_bucket_and_the_one_before(self, one):
        event = message()
        original = await one.append(event)
        bucket = original.id.ms // 60_000
        await set_head_ms(one, (bucket + 2) * 60_000 - 1)
        again = await one.append(event)
        assert (again.id, again.duplicate) == (original.id, True)
        await set_head_ms(one, (bucket + 2) * 60_000)
        forgotten = await one.append(event)
        assert (forgotten.sequence, forgotten.duplicate) == (2, False)

    async def test_a_bucket_lives_as_long_as_its_last_id_needs(self, one):
        # As a log leaves it that was opened with a shorter window before.
        for key in one.keys.dedup(0):
            await one.client.hset(key, "old", "1-1")
            await one.client.pexpire(key, 500)
        await one.append(message())
        left_ms = [await one.client.pttl(key) for key in one.keys.dedup(0)]
        assert max(left_ms) > 60_000

    async def test_an_expiry_is_set_once_per_bucket(self, one):
        await one.append(message())
        before = await calls_of(one, "pexpireat")
        for n in range(5):
            await one.append(message(n))
        assert await calls_of(one, "pexpireat") <= before + 1  # the minute may turn meanwhile


async def calls_of(log: EventLog, command: str) -> int:
    stats = [await node.info("commandstats") for node in await nodes_of(log.client)]
    return sum(int(each.get(f"cmdstat_{command}", {"calls": 0})["calls"]) for each in stats)


class TestHead:
    @pytest.mark.parametrize("trimmed", [False, True])
    async def test_without_its_head_a_partition_takes_nothing(self, one, trimmed):
        await one.append([message(n) for n in range(3)])
        before = await ids(one)
        if trimmed:
            await one.client.xtrim(one.keys.stream(0), maxlen=0)
            before = []
        await one.client.delete(one.keys.head(0))
        with pytest.raises(EventLogError, match="backup") as caught:
            await one.append([message(), SessionTouched(conversation="c", session="s")])
        assert type(caught.value) is EventLogError
        assert await ids(one) == before
        assert not await one.client.exists(one.keys.head(0), one.keys.versions(0))

    async def test_sequences_go_on_after_everything_was_trimmed(self, one):
        await one.append([message(n) for n in range(3)])
        await one.client.xtrim(one.keys.stream(0), maxlen=0)
        assert (await one.append(message())).sequence == 4
        await one.client.delete(one.keys.stream(0))
        assert (await one.append(message())).sequence == 5

    async def test_a_group_on_an_empty_partition_is_no_lost_head(self, one):
        await one.client.xgroup_create(one.keys.stream(0), "g", id="0", mkstream=True)
        assert (await one.append(message())).sequence == 1


class TestScriptCache:
    async def test_a_forgotten_script_is_sent_again(self, one):
        for n in range(3):
            await one.client.script_flush()
            assert (await one.append(message(n))).sequence == n + 1

    async def test_and_so_it_is_in_a_durable_append(self, tmp_path: Path):
        with RawServer(tmp_path, appendonly="yes", appendfsync="always") as server:
            async with EventLog.open(server.url, durability="fsync") as log:
                await log.client.script_flush()
                assert (await log.append(message())).sequence == 1
                assert (await log.append(message())).sequence == 2


class TestCoalescing:
    async def test_many_callers_share_a_few_calls(self, one):
        await one.append(message())
        before = await calls_of(one, "evalsha")
        await asyncio.gather(*(one.append(message(n)) for n in range(2000)))
        assert await calls_of(one, "evalsha") - before <= 12
        assert [i.n for i in await ids(one)] == list(range(1, 2002))

    async def test_an_idle_log_sends_at_once(self, one):
        await one.append(message())
        before = await calls_of(one, "evalsha")
        for n in range(5):
            await one.append(message(n))
        assert await calls_of(one, "evalsha") - before == 5

    async def test_callers_of_unlike_durability_are_kept_apart(self, tmp_path: Path):
        with RawServer(tmp_path, appendonly="yes", appendfsync="always") as server:
            async with EventLog.open(server.url, partition_count=1) as log:
                asked = await calls_of(log, "config|get")
                levels: list[Any] = ["memory", "fsync"] * 20
                results = await asyncio.gather(
                    *(log.append(message(n), durability=level) for n, level in enumerate(levels))
                )
                assert [r.sequence for r in results] == list(range(1, 41))
                # One asks how the server syncs; each then makes sure that it still does.
                assert await calls_of(log, "config|get") - asked == 21


class TestMemory:
    async def test_a_full_server_refuses_whole_batches_and_the_log_goes_on_later(self, tmp_path):
        with RawServer(tmp_path) as server:
            async with EventLog.open(server.url, partition_count=1) as log:
                await log.append(message("first"))
                used = (await log.client.info("memory"))["used_memory"]
                await log.client.config_set("maxmemory", used + 3_000_000)
                lists = [self._session_events(n) for n in range(40)]
                written = await self._append_until_full(log, lists)
                assert 0 < written < 40
                await self._check_whole(log, written)
                # The log can still be opened, read and followed; it says what to do.
                await log.client.config_set("maxmemory", 1)
                async with EventLog.open(server.url) as other:
                    assert len(await other.read(partition=0, limit=3)) == 3
                    assert await other.ping() is True
                    with pytest.raises(OutOfMemory, match="maxmemory"):
                        await other.append(lists[-1])
                await log.client.config_set("maxmemory", 0)
                for number, events in enumerate(lists):
                    results = await log.append(events)
                    assert {r.duplicate for r in results} == {number < written}
                await self._check_whole(log, 40)

    def _session_events(self, number: int) -> list[Event]:
        filler = "x" * 10_000
        return [
            SessionTouched(
                conversation="c", session=f"s{number}", reason=filler, id=f"{number}/{n}"
            )
            for n in range(30)
        ]

    async def _append_until_full(self, log: EventLog, lists: list[list[Event]]) -> int:
        for number, events in enumerate(lists):
            try:
                await log.append(events)
            except OutOfMemory:
                return number
        return len(lists)

    async def _check_whole(self, log: EventLog, list_count: int) -> None:
        """Check that each list is there with all its traces, and nothing of any other."""
        found = await ids(log)
        assert [i.n for i in found] == list(range(1, 30 * list_count + 2))
        assert await log.heads() == [found[-1]]
        versions = await log.client.hgetall(log.keys.versions(0))
        assert versions == {f"session:s{n}".encode(): b"30" for n in range(list_count)}
        remembered = [await log.client.hlen(key) for key in log.keys.dedup(0)]
        assert sum(remembered) == len(found)

    async def test_a_producer_s_refused_batch_is_resumed(self, tmp_path: Path):
        items = [(n, message("x" * 10_000)) for n in range(1, 301)]
        with RawServer(tmp_path) as server:
            async with EventLog.open(server.url, partition_count=1) as log:
                producer = await log.producer("p")
                assert await producer.append(items[:30]) == 30
                await log.client.config_set("maxmemory", 1)
                with pytest.raises(OutOfMemory):
                    await producer.append(items[30:])
                assert (await log.producer("p")).positions == {0: 30}
                await log.client.config_set("maxmemory", 0)
                assert await (await log.producer("p")).append(items) == 270
                assert [i.n for i in await ids(log)] == list(range(1, 301))


class TestDurability:
    async def test_fsync_is_confirmed_by_the_server(self, tmp_path: Path):
        with RawServer(tmp_path, appendonly="yes", appendfsync="always") as server:
            async with EventLog.open(server.url, partition_count=1) as log:
                await log.append(message())
                asked = await calls_of(log, "config|get")
                event = message()
                first = await log.append(event, durability="fsync")
                assert await log.append(event, durability="fsync") == first._replace(duplicate=True)
                producer = await log.producer("p", durability="fsync")
                assert await producer.append([(1, message()), (2, message())]) == 2
                assert await calls_of(log, "config|get") - asked == 4
            server.kill()
            server.start()
            async with EventLog.open(server.url) as log:
                assert [i.n for i in await ids(log)] == [1, 2, 3, 4]

    async def test_a_server_that_confirms_before_it_syncs_is_not_believed(self, tmp_path: Path):
        with RawServer(tmp_path, appendonly="yes", appendfsync="everysec") as server:
            async with EventLog.open(server.url, partition_count=1) as log:
                with pytest.raises(UnsupportedDurability, match="appendfsync always"):
                    await log.append(message(), durability="fsync")
                assert await log.heads() == [START]

    async def test_what_the_disk_has_not_is_not_confirmed_even_when_sent_again(self, tmp_path):
        with RawServer(tmp_path, appendonly="yes", appendfsync="always") as server:
            async with EventLog.open(server.url, partition_count=1, max_retries=0) as log:
                await log.append(message(), durability="fsync")
                await log.client.config_set("appendfsync", "everysec")
                event = message()
                with pytest.raises(LogUnavailable, match="to disk was not confirmed"):
                    await log.append(event, durability="fsync")
                with pytest.raises(UnsupportedDurability):
                    await log.append(event, durability="fsync")
                await log.client.config_set("appendfsync", "always")
                assert (await log.append(event, durability="fsync")).duplicate
                assert len(await ids(log)) == 2

    async def test_the_embedded_server_syncs_always_from_the_first_one_on(self, tmp_path: Path):
        async with EventLog.open(data_dir=str(tmp_path), partition_count=1) as log:
            await log.append(message())
            assert await log.client.config_get("appendfsync") == {"appendfsync": "everysec"}
            await log.append(message(), durability="fsync")
            assert await log.client.config_get("appendfsync") == {"appendfsync": "always"}
            assert log._embedded is not None
            assert log._embedded.pid is not None
            os.kill(log._embedded.pid, signal.SIGKILL)  # the next one begins as this did
            await log.append(message(), durability="fsync")
            assert await log.client.config_get("appendfsync") == {"appendfsync": "always"}
            assert [i.n for i in await ids(log)] == [1, 2, 3]

    async def test_without_an_append_only_file_fsync_is_refused_before_writing(self, tmp_path):
        with RawServer(tmp_path) as server:
            async with EventLog.open(server.url, partition_count=1) as log:
                with pytest.raises(UnsupportedDurability, match="appendonly"):
                    await log.append(message(), durability="fsync")
                assert await log.heads() == [START]

    async def test_replicated_asks_a_replica(self, tmp_path: Path):
        folders = [tmp_path / "primary", tmp_path / "replica"]
        for folder in folders:
            folder.mkdir()
        with (
            RawServer(folders[0], tcp=True, repl_diskless_sync_delay=0, hz=100) as primary,
            RawServer(folders[1], replicaof=f"127.0.0.1 {primary.port}") as replica,
        ):
            async with EventLog.open(
                primary.url, partition_count=1, command_timeout_s=0.5, max_retries=0
            ) as log:

                async def confirmed() -> bool:
                    try:
                        await log.append(message(id="same"), durability="replicated")
                    except LogUnavailable:
                        return False
                    return True

                assert await eventually(confirmed)
                replica.kill()
                for event in (message(id="same"), message(id="other")):
                    with pytest.raises(LogUnavailable, match="to a replica was not confirmed"):
                        await log.append(event, durability="replicated")
                assert [i.n for i in await ids(log)] == [1, 2]
