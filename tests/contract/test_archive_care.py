"""Looking after an archive: rules, audits, damage in the way of queries, restoring, erasing beside it."""

from __future__ import annotations

import asyncio
import random
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analytics import Catalogue, Warehouse
from analytics.auditing import audit
from analytics.columns import SCHEMA
from analytics.compaction import Compactor
from analytics.inspecting import inspect
from analytics.past import ArchivedPast
from analytics.restoring import Left, restore
from analytics.segment import Segment
from analytics.segment_writer import parquet_options
from analytics.storage import DirectoryStorage
from bridge.erasing import erase
from eventlog import BridgeEvent, Event, EventLog, MessageReceived
from eventlog.errors import ConfigurationError, HistoryGap
from eventlog.ids import START
from projections.views.tickets import AGENT_SESSION_OPENED
from tests.archives import ArchivedWorld, archived
from tests.compacting import archive, compact, put_on_days, storage_in, with_short_files
from tests.erasing import CHAT, SECRET, in_files, opened
from tests.querying import rows

COUNT = "SELECT count(*), count(DISTINCT (partition, sequence)) FROM events"


@pytest.fixture
def storage(tmp_path: Path) -> DirectoryStorage:
    return storage_in(tmp_path)


def talk(count: int) -> list[Event]:
    """A third of it bridge events: of no session, of one, and one that marks a beginning."""
    made: list[Event] = []
    for n in range(count):
        chat = f"c{n % 5}"
        made.append(MessageReceived(conversation=chat, text=f"text {n}"))
        if n % 2:
            session = "s" if n % 10 == 5 else None
            sort = AGENT_SESSION_OPENED if n == 7 else "error"
            made.append(BridgeEvent(conversation=chat, event_type=sort, session=session))
    return made


async def trim_all(log: EventLog) -> None:
    for partition in range(log.partition_count):
        await log.client.xtrim(log.keys.stream(partition), maxlen=0, approximate=False)


def spoil(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "flipped":
        data[len(data) // 3] ^= 8
    elif how == "footer":
        data[-1000] ^= 8
    path.write_bytes(data[:-500] if how == "cut" else b"" if how == "emptied" else data)


async def test_a_rule_takes_out_what_has_outlived_it_and_every_sequence_is_accounted_for(
    log: EventLog, storage: DirectoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_short_files(monkeypatch)
    events = talk(200)
    await put_on_days(log, events, ago=12, days=6)
    await archive(log, storage)
    assert (await compact(log, storage)).removed_by_rule == {}
    before = {p: archived(storage, p) for p in range(log.partition_count)}
    report = await compact(log, storage, keep_days={"bridge.event": 9})
    removed = report.removed_by_rule["bridge.event"]
    assert 0 < removed < 80
    assert await compact(log, storage, keep_days={"bridge.event": 9}) == ((), {}, (), (), ())
    counted = 0
    for partition, coverage in Catalogue(storage).scan().items():
        assert coverage.spare == coverage.gaps == ()
        for segment in coverage.chosen:
            assert inspect(storage, segment) is None
            with Catalogue(storage).open(segment) as reader:
                counted += reader.facts.removed_count
        left = archived(storage, partition)
        kept = {e.id for e in left}
        gone = [e for e in before[partition] if e.id not in kept]
        assert left == [e for e in before[partition] if e.id in kept]
        assert all(b'"bridge.event"' in e.raw and b'"session"' not in e.raw for e in gone)
        assert not any(AGENT_SESSION_OPENED.encode() in e.raw for e in gone)
        stretches = [s async for s in ArchivedPast(storage).read(partition, START)]
        assert stretches[-1].end == coverage.position
    assert counted == removed
    assert audit(storage) == []
    async with Warehouse.open(log, storage.root) as warehouse:
        assert await rows(warehouse, COUNT) == [(len(events) - removed,) * 2]
    # The rest goes when its day comes; what was removed before stays counted.
    again = await compact(log, storage, keep_days={"bridge.event": 2})
    assert again.removed_by_rule["bridge.event"] > 0
    assert audit(storage) == []


async def test_a_file_that_lacks_other_rows_than_the_rules_is_damaged(
    log: EventLog, storage: DirectoryStorage
) -> None:
    await put_on_days(log, talk(60))
    await archive(log, storage)
    await compact(log, storage, keep_days={"bridge.event": 1})
    segment = next(s for s in storage.segments() if s.row_count > 9)
    path = storage.path(segment)
    with pq.ParquetFile(path) as file:
        table, metadata = file.read(), dict(file.metadata.metadata)
    metadata.pop(b"ARROW:schema")
    for harmed in (
        table.slice(1),
        pa.concat_tables([table.slice(0, 1), table.slice(0, len(table) - 1)]),
    ):
        with pq.ParquetWriter(path, table.schema, **parquet_options(table.schema)) as writer:
            writer.write_table(harmed)
            writer.add_key_value_metadata(metadata)
        assert "once each" in str(inspect(storage, segment))


@pytest.mark.parametrize("name", ["message.received", "session.started", "dead_letter.parked"])
async def test_a_rule_on_what_read_models_need_is_refused(
    log: EventLog, storage: DirectoryStorage, name: str
) -> None:
    with pytest.raises(ConfigurationError, match=name):
        Compactor(log, storage, keep_days={name: 30})
    Compactor(log, storage, keep_days={"shop.sold": 30})


async def world(log: EventLog, storage: DirectoryStorage) -> list[Segment]:
    await put_on_days(log, [MessageReceived(conversation="c0", text=f"{n}") for n in range(90)])
    await archive(log, storage, max_rows=15)
    partition = log.partition_of("c0")
    return list(Catalogue(storage).coverage(partition).chosen)


@pytest.mark.parametrize("how", ["flipped", "footer", "cut", "emptied"])
async def test_a_damaged_file_is_found_named_and_restored(
    log: EventLog, storage: DirectoryStorage, tmp_path: Path, how: str
) -> None:
    _, _, third, *_ = await world(log, storage)
    copy = tmp_path / "copy"
    shutil.copytree(storage.root, copy)
    spoil(storage.path(third), how)
    [finding] = audit(storage)
    assert (finding.kind, finding.file, finding.needs_attention) == ("damaged", third.name, True)
    done, left = await restore(log, storage)
    assert ([(each.segment, each.source) for each in done], left) == ([(third, "log")], [])
    assert audit(storage) == []
    await trim_all(log)
    spoil(storage.path(third), how)
    done, left = await restore(log, storage)
    assert left == [Left(third.partition, third.first, third.last)]
    done, left = await restore(log, storage, DirectoryStorage(copy))
    assert ([(each.segment, each.source) for each in done], left) == ([(third, "backup")], [])
    assert audit(storage) == []


@pytest.mark.parametrize("place", [0, 2, -1])
async def test_missing_files_come_back_as_far_as_anything_has_them(
    log: EventLog, storage: DirectoryStorage, tmp_path: Path, place: int
) -> None:
    segment = (await world(log, storage))[place]
    copy = tmp_path / "copy"
    shutil.copytree(storage.root, copy)
    storage.remove(segment)
    if place != -1:
        assert {finding.kind for finding in audit(storage)} == {"gap", "stranded"}
        done, left = await restore(log, storage)
        assert ([each.source for each in done], left) == (["log"], [])
        storage.remove(segment)
    await trim_all(log)
    async with Warehouse.open(log, storage.root) as warehouse:
        with pytest.raises(HistoryGap):
            await warehouse.query(COUNT)
    async with Warehouse.open(log, storage.root, skip_damaged=True) as warehouse:
        assert await rows(warehouse, COUNT) == [(90 - segment.row_count,) * 2]
        assert [each[1:3] for each in warehouse.missing] == [(segment.first, segment.last)]
        done, left = await restore(log, storage, DirectoryStorage(copy))
        assert ([(each.segment, each.source) for each in done], left) == ([(segment, "backup")], [])
        assert await rows(warehouse, COUNT) == [(90, 90)]
        assert warehouse.missing == ()
    assert audit(storage) == []


@pytest.mark.parametrize("how", ["cut", "emptied"])
async def test_a_query_on_a_damaged_file_says_which_or_goes_on_without(
    log: EventLog, storage: DirectoryStorage, how: str
) -> None:
    segments = await world(log, storage)
    third, last = segments[2], segments[-1]
    for segment in (third, last):
        spoil(storage.path(segment), how)
    everything = "SELECT * FROM events"
    async with Warehouse.open(log, storage.root) as warehouse:
        assert len(await rows(warehouse, everything)) == 90  # the log has them still
    await trim_all(log)
    async with Warehouse.open(log, storage.root) as warehouse:
        with pytest.raises(HistoryGap, match=third.name) as caught:
            await warehouse.query(everything)
        assert "eventlog archive restore" in caught.value.remedy
        assert "--skip-damaged" in caught.value.remedy
    async with Warehouse.open(None, storage.root) as warehouse:
        with pytest.raises(HistoryGap):
            await warehouse.query(everything)
    for source in (log, None):
        async with Warehouse.open(source, storage.root, skip_damaged=True) as warehouse:
            left = 90 - third.row_count - last.row_count
            assert len(await rows(warehouse, everything)) == left
            lacking = [(each.first, each.last, each.files) for each in warehouse.missing]
            assert lacking == [(s.first, s.last, (s.name,)) for s in (third, last)]


async def test_a_query_goes_on_when_files_are_compacted_and_deleted_meanwhile(
    log: EventLog, storage: DirectoryStorage
) -> None:
    await world(log, storage)
    async with Warehouse.open(log, storage.root) as warehouse:
        listed = await warehouse._sources.take()
        await compact(log, storage)
        with pytest.MonkeyPatch.context() as patch:
            real, first = warehouse._sources.take, [listed]

            async def take() -> Any:
                return first.pop() if first else await real()

            patch.setattr(warehouse._sources, "take", take)
            assert await rows(warehouse, COUNT) == [(90, 90)]


async def test_old_files_stay_readable_when_columns_are_added(
    log: EventLog, storage: DirectoryStorage
) -> None:
    segments = await world(log, storage)
    partition = segments[0].partition
    before = archived(storage, partition)
    for segment in segments[:3]:
        path = storage.path(segment)
        with pq.ParquetFile(path) as file:
            table = file.read()
        old = table.drop_columns(["is_erased", "message_type", "attachments", "raw"])
        pq.write_table(old, path, **parquet_options(old.schema))  # nor had they a format or a seal
        assert inspect(storage, segment) is None
    assert archived(storage, partition) == before
    async with Warehouse.open(log, storage.root) as warehouse:
        assert await rows(warehouse, COUNT) == [(90, 90)]
    await compact(log, storage)
    assert archived(storage, partition) == before
    [whole, *_] = Catalogue(storage).coverage(partition).chosen
    with pq.ParquetFile(storage.path(whole)) as file:
        assert file.schema_arrow.remove_metadata().equals(SCHEMA)
        assert file.metadata.metadata[b"eventlog.format"] == b"1"


async def test_a_column_is_seen_as_soon_as_one_of_the_files_has_it(
    log: EventLog, storage: DirectoryStorage
) -> None:
    """A warehouse compares only files that it has not seen, or that were put in another's place."""
    segments = await world(log, storage)
    tables = {segment: pq.read_table(storage.path(segment)) for segment in segments}
    for segment, table in tables.items():
        old = table.drop_columns(["id"])
        pq.write_table(old, storage.path(segment), **parquet_options(old.schema))
    async with Warehouse.open(log, storage.root) as warehouse:
        assert await rows(warehouse, "SELECT count(*), count(id) FROM events") == [(90, 0)]
        restored = segments[-1]
        staged = storage.stage(restored)
        pq.write_table(tables[restored], staged, **parquet_options())
        storage.replace(staged, restored)
        found = await rows(warehouse, "SELECT count(*), count(id) FROM events")
        assert found == [(90, restored.row_count)]


async def test_a_file_of_a_later_format_is_refused_by_name(
    log: EventLog, storage: DirectoryStorage
) -> None:
    segment = (await world(log, storage))[0]
    path = storage.path(segment)
    with pq.ParquetFile(path) as file:
        table = file.read()
    with pq.ParquetWriter(path, table.schema) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({"eventlog.format": "2"})
    with pytest.raises(HistoryGap, match="format '2'"):
        archived(storage, segment.partition)


@pytest.mark.parametrize("step", ["planned", "writing", "written"])
async def test_a_compactor_that_slept_through_an_erasure_brings_nothing_back(
    server_url: str, tmp_path: Path, step: str
) -> None:
    """It has read what was to be erased, and its lease has lapsed, when the erasure begins."""
    async with opened(server_url, tmp_path, lease_ttl_ms=1000) as log:
        storage = storage_in(tmp_path)
        said: list[Event] = [MessageReceived(conversation=CHAT, text=SECRET) for _ in range(40)]
        await put_on_days(log, said)
        await archive(log, storage, max_rows=15)
        loop, asleep, awake = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()

        def sleep(reached: str) -> None:
            if reached == step and not asleep.is_set():
                loop.call_soon_threadsafe(asleep.set)
                if step != "planned":
                    asyncio.run_coroutine_threadsafe(awake.wait(), loop).result()

        sleeper = Compactor(log, storage, grace_s=-1, reached=sleep)
        sleeping = asyncio.create_task(sleeper.run_once())
        await asleep.wait()
        # As if its process had been stopped for longer than its lease lasts.
        for partition in range(log.partition_count):
            await log.client.hset(log.keys.lease(partition, "eraser"), "expires_ms", "0")
        report = await erase(log, chat=CHAT)
        assert report.is_complete
        awake.set()
        await sleeping
        await compact(log, storage)
        assert in_files(log.settings.data_path) == []
        partition = log.partition_of(CHAT)
        until = Catalogue(storage).coverage(partition).position.n
        assert [e.id.n for e in archived(storage, partition)] == list(range(1, until + 1))


async def test_erasing_and_compacting_at_once_leave_nothing_and_lose_nothing(
    server_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_short_files(monkeypatch)
    async with opened(server_url, tmp_path) as log:
        storage = storage_in(tmp_path)
        rnd = random.Random(2)
        said: list[Event] = [
            MessageReceived(conversation=f"{CHAT}:{rnd.randrange(4)}", text=SECRET)
            for _ in range(160)
        ]
        await put_on_days(log, said)
        await ArchivedWorld(log, storage).project()
        await archive(log, storage, max_rows=11)
        compacting = [asyncio.create_task(compact(log, storage)) for _ in range(2)]
        for n in range(4):
            assert (await erase(log, chat=f"{CHAT}:{n}")).is_complete
        for report in await asyncio.gather(*compacting):
            assert report.failures == ()
        assert in_files(log.settings.data_path) == []
        async with Warehouse.open(log, storage.root) as warehouse:
            assert await rows(warehouse, f"{COUNT} WHERE is_erased") == [(160, 160)]
