"""The archiver on a real server: every entry once, by the day, whatever came before."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from analytics import Archiver, Catalogue, DirectoryStorage, Rolling, Segment
from analytics.archiver import GROUP
from analytics.columns import SCHEMA
from analytics.plan import Plans
from analytics.segment import DAY_MS
from analytics.segment_writer import ROW_GROUP_BYTES, check_segment
from bench.events import chat_events
from eventlog import EntryId, EventLog, MessageReceived, RawEntry
from eventlog.errors import EventLogError, HistoryGap
from eventlog.ids import START
from tests.archives import archived
from tests.support import RawServer, eventually

MIDNIGHT_MS = 20_412 * DAY_MS


@pytest.fixture
def storage(tmp_path: Path) -> DirectoryStorage:
    return DirectoryStorage(tmp_path / "archive")


async def put(log: EventLog, partition: int, *ids: tuple[int, int], raw: bytes = b"") -> None:
    """Entries with times of our choosing, as the append script would have left them."""
    for ms, n in ids:
        event = MessageReceived(conversation="c", id=f"{n}", text=f"text {n}")
        await log.client.xadd(
            log.keys.stream(partition), {"e": raw or log.codec.encode(event)}, id=f"{ms}-{n}"
        )
        await log.client.set(log.keys.head(partition), f"{ms}-{n}")


async def in_log(log: EventLog, partition: int) -> list[RawEntry]:
    return await log.read_raw(partition, START, 1_000_000)


async def group_position(log: EventLog, partition: int) -> bytes:
    groups = await log.client.xinfo_groups(log.keys.stream(partition))
    [found] = [group for group in groups if group["name"] == GROUP.encode()]
    assert found["pending"] == 0
    return bytes(found["last-delivered-id"])


async def test_everything_is_archived_once_and_acknowledged(
    log: EventLog, storage: DirectoryStorage
) -> None:
    events = chat_events(3000)
    await log.append(events[:2000])
    archiver = Archiver(log, storage)
    first = await archiver.run_once()
    assert sum(segment.row_count for segment in first) == 2000
    assert await archiver.run_once() == []
    await log.append(events[2000:])
    second = await archiver.run_once()
    await archiver.close()
    assert sum(segment.row_count for segment in second) == 1000
    heads = await log.heads()
    catalogue = Catalogue(storage)
    for partition, head in enumerate(heads):
        assert archived(storage, partition) == await in_log(log, partition)
        assert await group_position(log, partition) == str(head).encode()
        assert not await log.client.exists(log.keys.archive_plan(partition))
        assert catalogue.coverage(partition).position == head
    leftovers = [p for p in storage.root.rglob("*") if p.is_file() and p.suffix != ".parquet"]
    assert leftovers == []


async def test_a_segment_ends_with_its_day(log: EventLog, storage: DirectoryStorage) -> None:
    await put(log, 1, (MIDNIGHT_MS - 5, 1), (MIDNIGHT_MS - 1, 2))
    await put(log, 1, (MIDNIGHT_MS, 3), (MIDNIGHT_MS + 3 * DAY_MS, 4))
    archiver = Archiver(log, storage)
    published = await archiver.run_once()
    assert published == [
        Segment(1, 1, 2, MIDNIGHT_MS - 1),
        Segment(1, 3, 3, MIDNIGHT_MS),
        Segment(1, 4, 4, MIDNIGHT_MS + 3 * DAY_MS),
    ]
    assert len({segment.name.split("/")[0] for segment in published}) == 3
    assert archived(storage, 1) == await in_log(log, 1)
    await archiver.close()


async def test_a_backlog_is_cut_into_segments_of_bounded_length(
    log: EventLog, storage: DirectoryStorage
) -> None:
    await put(log, 0, *((1_795_000_000_000, n) for n in range(1, 26)))
    archiver = Archiver(log, storage, rolling=Rolling(max_rows=10))
    assert [(s.first, s.last) for s in await archiver.run_once()] == [(1, 10), (11, 20), (21, 25)]
    await archiver.close()


async def test_entries_can_be_read_back_from_and_to_anywhere(
    log: EventLog, storage: DirectoryStorage
) -> None:
    await put(log, 0, *((1_795_000_000_000 + n, n) for n in range(1, 31)))
    archiver = Archiver(log, storage, rolling=Rolling(max_rows=10))
    await archiver.run_once()
    await archiver.close()
    whole = await in_log(log, 0)
    for after, until in ((0, 30), (0, 10), (9, 11), (10, 20), (15, 16), (29, 30), (30, 30), (5, 5)):
        assert archived(storage, 0, after, until) == whole[after:until]
    with pytest.raises(HistoryGap, match="ends at sequence 30, not at 31"):
        archived(storage, 0, 0, 31)


async def test_large_events_are_archived_in_small_row_groups(
    log: EventLog, storage: DirectoryStorage
) -> None:
    big = log.codec.encode(MessageReceived(conversation="c", id="big", text="x" * 900_000))
    await put(log, 0, *((1_795_000_000_000, n) for n in range(1, 81)), raw=big)
    archiver = Archiver(log, storage)
    [segment] = await archiver.run_once()
    await archiver.close()
    with pq.ParquetFile(storage.path(segment)) as file:
        assert file.metadata.num_row_groups >= 80 * 900_000 // (2 * ROW_GROUP_BYTES)
    assert archived(storage, 0) == await in_log(log, 0)


async def test_a_wreck_in_the_log_is_archived_as_it_is(
    log: EventLog, storage: DirectoryStorage
) -> None:
    await put(log, 0, (1_795_000_000_000, 1))
    await put(log, 0, (1_795_000_000_000, 2), raw=b"\xff no event")
    await put(log, 0, (1_795_000_000_000, 3))
    archiver = Archiver(log, storage)
    [segment] = await archiver.run_once()
    await archiver.close()
    assert pq.read_table(storage.path(segment), partitioning=None)["raw"].to_pylist() == [
        None, b"\xff no event", None,
    ]  # fmt: skip
    assert archived(storage, 0) == await in_log(log, 0)


async def test_two_archivers_share_the_partitions_and_write_each_entry_once(
    log: EventLog, storage: DirectoryStorage
) -> None:
    await log.append(chat_events(2000))
    one, two = Archiver(log, storage, owner="one"), Archiver(log, storage, owner="two")
    heads = await log.heads()
    await asyncio.gather(one.archive_until(heads), two.archive_until(heads))
    await one.close()
    await two.close()
    for partition, coverage in Catalogue(storage).scan().items():
        assert coverage.position == heads[partition]
        assert coverage.spare == coverage.stranded == ()


async def test_two_archivers_that_both_believe_to_hold_a_partition_write_the_same_files(
    log: EventLog, storage: DirectoryStorage
) -> None:
    """One owner name for two: both hold every lease, as after a pause, and they cut differently."""
    await log.append(chat_events(2000))
    heads = await log.heads()
    rivals = [
        Archiver(log, storage, owner="same", rolling=Rolling(max_rows=rows))
        for rows in (70, 130, 99)
    ]
    await asyncio.gather(*(rival.archive_until(heads) for rival in rivals))
    await rivals[0].close()
    for partition, coverage in Catalogue(storage).scan().items():
        assert coverage.position == heads[partition]
        assert coverage.spare == coverage.stranded == ()
        entries = archived(storage, partition)
        assert entries == await in_log(log, partition)


async def test_a_cut_that_a_dead_archiver_planned_is_followed(
    log: EventLog, storage: DirectoryStorage
) -> None:
    await put(log, 0, *((1_795_000_000_000, n) for n in range(1, 11)))
    plans = log.keys.archive_plan(0)
    await log.client.hset(plans, "0", "4")
    archiver = Archiver(log, storage)
    assert [(s.first, s.last) for s in await archiver.run_once()] == [(1, 4), (5, 10)]
    await archiver.close()
    assert not await log.client.exists(plans)


async def test_a_start_that_a_rival_has_finished_meanwhile_is_not_planned_again(
    log: EventLog, storage: DirectoryStorage
) -> None:
    """The files were listed, then a rival published the segment and forgot its plan."""
    await put(log, 0, *((1_795_000_000_000, n) for n in range(1, 11)))
    archiver = Archiver(log, storage)
    await archiver.run_once()
    await archiver.close()
    head = (await log.heads())[0]
    assert (
        await Plans(log, Catalogue(storage), max_rows=4, max_bytes=2**30).fix(0, START, head)
        is None
    )
    assert not await log.client.exists(log.keys.archive_plan(0))


async def test_a_plan_beyond_the_log_is_dropped(log: EventLog, storage: DirectoryStorage) -> None:
    """The server was restored from a backup that is older than the plan."""
    await put(log, 0, *((1_795_000_000_000, n) for n in range(1, 11)))
    await log.client.hset(log.keys.archive_plan(0), "0", "400")
    archiver = Archiver(log, storage)
    assert [(s.first, s.last) for s in await archiver.run_once()] == [(1, 10)]
    await archiver.close()


async def test_a_missing_file_is_written_again_from_the_log(
    log: EventLog, storage: DirectoryStorage
) -> None:
    await put(log, 0, *((1_795_000_000_000, n) for n in range(1, 31)))
    archiver = Archiver(log, storage, rolling=Rolling(max_rows=10))
    _, lost, _ = await archiver.run_once()
    await archiver.close()
    storage.path(lost).unlink()
    assert not (await archiver.status())[0].is_whole
    again = Archiver(log, storage)
    assert await again.run_once() == [lost]
    assert (await again.status())[0].is_whole
    assert archived(storage, 0) == await in_log(log, 0)
    await again.close()


async def test_entries_that_are_gone_stop_the_archiver_loudly(
    log: EventLog, storage: DirectoryStorage
) -> None:
    await put(log, 0, *((1_795_000_000_000, n) for n in range(1, 11)))
    await log.client.xtrim(log.keys.stream(0), maxlen=5, approximate=False)
    archiver = Archiver(log, storage)
    with pytest.raises(HistoryGap):
        await archiver.run_once()
    await archiver.close()
    assert storage.segments() == []


async def test_status_tells_position_lag_and_age(log: EventLog, storage: DirectoryStorage) -> None:
    now_ms = log.clock.now_us() // 1000
    await put(log, 2, (now_ms - 60_000, 1))
    archiver = Archiver(log, storage)
    before = (await archiver.status())[2]
    assert (before.position, before.lag_count, before.segment_count) == (START, 1, 0)
    assert 60_000 <= before.oldest_age_ms < 90_000
    await archiver.run_once()
    after = (await archiver.status())[2]
    assert after.position == after.head == EntryId(now_ms - 60_000, 1)
    assert (after.lag_count, after.oldest_age_ms, after.segment_count) == (0, 0, 1)
    await archiver.close()


async def test_run_once_leaves_short_backlogs_alone(
    log: EventLog, storage: DirectoryStorage
) -> None:
    await put(log, 0, *((1_795_000_000_000, n) for n in range(1, 11)))
    archiver = Archiver(log, storage)
    assert await archiver.run_once(min_rows=11) == []
    assert len(await archiver.run_once(min_rows=10)) == 1
    await archiver.close()


async def test_run_archives_what_is_old_or_long_and_stops_when_told(
    log: EventLog, storage: DirectoryStorage
) -> None:
    now_ms = log.clock.now_us() // 1000
    await put(log, 0, (now_ms - 700_000, 1), (now_ms - 699_999, 2))  # old enough, of one day
    await put(log, 1, *((now_ms, n) for n in range(1, 31)))  # long enough
    await put(log, 2, (now_ms, 1))  # neither
    archiver = Archiver(log, storage, rolling=Rolling(rows=30))
    stop = asyncio.Event()
    running = asyncio.create_task(archiver.run(stop))
    await eventually(lambda: len(storage.segments()) == 2 or running.done())
    stop.set()
    await running
    await archiver.close()
    assert sorted((s.partition, s.last) for s in storage.segments()) == [(0, 2), (1, 30)]


async def test_what_takes_much_memory_is_due_however_few_entries_it_is(
    log: EventLog, storage: DirectoryStorage
) -> None:
    long, short = (next(c for c in map(str, range(99)) if log.partition_of(c) == p) for p in (0, 1))
    await log.append([MessageReceived(conversation=long, text="x" * 20_000) for _ in range(20)])
    await log.append([MessageReceived(conversation=short, text="x") for _ in range(20)])
    archiver = Archiver(log, storage, rolling=Rolling(bytes=200_000, max_bytes=100_000))
    stop = asyncio.Event()
    running = asyncio.create_task(archiver.run(stop))

    async def is_archived() -> bool:
        return (await archiver.status())[0].lag_count == 0 or running.done()

    await eventually(is_archived)
    stop.set()
    await running
    await archiver.close()
    segments = storage.segments()
    assert {segment.partition for segment in segments} == {0}
    assert max(segment.row_count for segment in segments) <= 6, (
        "none takes much more than asked for"
    )


async def test_run_outlives_a_server_that_goes_away_and_comes_back(
    tmp_path: Path, storage: DirectoryStorage, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "server"
    folder.mkdir()
    with RawServer(folder, appendonly="yes") as server:
        async with EventLog.open(server.url, partition_count=1, max_retries=0) as log:
            archiver = Archiver(log, storage, rolling=Rolling(rows=1))
            stop = asyncio.Event()
            running = asyncio.create_task(archiver.run(stop))
            await put(log, 0, (1_795_000_000_000, 1))
            await eventually(lambda: storage.segments() or running.done())
            server.stop()
            await eventually(lambda: "archiver_interrupted" in caplog.text or running.done())
            server.start()
            await put(log, 0, (1_795_000_000_000, 2))
            await eventually(lambda: len(storage.segments()) == 2 or running.done())
            assert not running.done()
            stop.set()
            await running
            await archiver.close()
            assert archived(storage, 0) == await in_log(log, 0)


async def test_run_reports_a_fault_and_goes_on_with_the_other_partitions(
    log: EventLog, storage: DirectoryStorage
) -> None:
    await put(log, 0, *((1_795_000_000_000, n) for n in range(1, 11)))
    await log.client.xtrim(log.keys.stream(0), maxlen=5, approximate=False)
    await put(log, 1, (1_795_000_000_000, 1))
    archiver = Archiver(log, storage)
    stop = asyncio.Event()
    running = asyncio.create_task(archiver.run(stop))
    await eventually(lambda: storage.segments() or running.done())
    stop.set()
    await running
    status = await archiver.status()
    assert status[0].error is not None
    assert "are gone" in status[0].error
    assert status[1].error is None
    await archiver.close()


async def test_a_damaged_temporary_file_is_never_published(
    log: EventLog, storage: DirectoryStorage, tmp_path: Path
) -> None:
    await put(log, 0, *((1_795_000_000_000, n) for n in range(1, 11)))
    archiver = Archiver(log, storage)
    [segment] = await archiver.run_once()
    await archiver.close()
    check_segment(storage.path(segment), segment)
    for wrong in (
        segment._replace(last=11),
        segment._replace(first=2),
        segment._replace(first=2, last=11),
    ):
        with pytest.raises(EventLogError, match="Nothing was published"):
            check_segment(storage.path(segment), wrong)
    whole = storage.path(segment).read_bytes()
    with pq.ParquetFile(storage.path(segment)) as file:
        place = file.metadata.row_group(0).column(SCHEMA.get_field_index("sequence"))
        inside = place.data_page_offset + place.total_compressed_size - 2
    flipped = bytearray(whole)
    flipped[inside] ^= 0xFF
    for data in (flipped, whole[:-100]):
        damaged = tmp_path / "damaged.parquet"
        damaged.write_bytes(data)
        with pytest.raises(EventLogError, match="Nothing was published"):
            check_segment(damaged, segment)


async def test_sweeping_takes_old_temporary_files_only(
    log: EventLog, storage: DirectoryStorage
) -> None:
    await put(log, 0, (1_795_000_000_000, 1))
    archiver = Archiver(log, storage)
    [segment] = await archiver.run_once()
    await archiver.close()
    staged = storage.stage(segment)
    staged.write_bytes(b"half a file")
    assert storage.segments() == [segment]
    assert storage.sweep(age_s=3600) == 0
    assert storage.sweep(age_s=-1) == 1
    assert not staged.exists()
    assert storage.segments() == [segment]
