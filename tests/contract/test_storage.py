"""What a directory and a bucket both promise of the segments in them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from analytics import (
    ArchivedPast,
    Archiver,
    BucketStorage,
    Catalogue,
    Copiers,
    DirectoryStorage,
    Rolling,
    Segment,
    Storage,
    Warehouse,
)
from analytics.erasing import rewrite_segment, segment_changes
from bench.events import chat_events
from eventlog import EventLog
from eventlog.entry import RawEntry
from eventlog.ids import START
from tests.archives import archived
from tests.buckets import Bucket

FIRST = Segment(3, 1, 10, 1_795_132_800_123)
SECOND = Segment(3, 11, 30, 1_795_132_900_123)

Open = Callable[[], Storage]
"""Gives one more storage of the same archive, as another process on another machine would have."""


@pytest.fixture(params=["directory", "bucket"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    if request.param == "directory":
        return lambda: DirectoryStorage(tmp_path / "archive")
    bucket: Bucket = request.getfixturevalue("bucket")
    machines = iter(range(100))
    return lambda: bucket.storage(cache=f"machine{next(machines)}")


@pytest.fixture
def storage(opened: Open) -> Storage:
    return opened()


def staged(storage: Storage, segment: Segment, content: bytes) -> Path:
    path = storage.stage(segment)
    path.write_bytes(content)
    return path


def publish(storage: Storage, segment: Segment, content: bytes) -> bool:
    return storage.publish(staged(storage, segment, content), segment)


class TestSegments:
    def test_what_was_published_is_there_for_all(self, opened: Open) -> None:
        one, other = opened(), opened()
        assert one.segments() == other.segments() == []
        assert publish(one, FIRST, b"ten rows")
        assert publish(other, SECOND, b"twenty rows")
        for each in (one, other, opened()):
            assert sorted(each.segments()) == [FIRST, SECOND]
            assert each.path(FIRST).read_bytes() == b"ten rows"
            paths = each.paths([SECOND, FIRST])
            assert [path.read_bytes() for path in paths] == [b"twenty rows", b"ten rows"]
            assert each.temporary_count() == 0

    def test_the_first_to_publish_wins(self, opened: Open) -> None:
        one, other = opened(), opened()
        waiting = staged(other, FIRST, b"the same rows")
        assert publish(one, FIRST, b"ten rows")
        assert not other.publish(waiting, FIRST)
        assert not waiting.exists()
        assert other.path(FIRST).read_bytes() == opened().path(FIRST).read_bytes() == b"ten rows"

    def test_what_is_only_staged_is_not_there(self, opened: Open) -> None:
        one = opened()
        path = staged(one, FIRST, b"half")
        assert one.temporary_count() == 1
        assert one.segments() == opened().segments() == []
        assert one.sweep(age_s=3600) == 0
        assert one.sweep(age_s=-1) == 1
        assert not path.exists()
        assert one.temporary_count() == 0

    def test_a_replaced_segment_is_read_new_by_all(self, opened: Open) -> None:
        one, other, idle = opened(), opened(), opened()
        publish(one, FIRST, b"with a name")
        for each in (one, other, idle):
            assert each.segments() == [FIRST]
            assert each.paths([FIRST])[0].read_bytes() == b"with a name"
        one.replace(staged(one, FIRST, b"without it!"), FIRST)
        assert one.path(FIRST).read_bytes() == b"without it!"
        for each in (one, other, opened()):
            assert each.segments() == [FIRST]
            assert each.path(FIRST).read_bytes() == b"without it!"

    def test_a_removed_segment_is_gone_and_may_be_removed_again(self, opened: Open) -> None:
        one, other = opened(), opened()
        publish(one, FIRST, b"ten rows")
        publish(one, SECOND, b"twenty rows")
        assert len(other.segments()) == 2
        other.remove(FIRST)
        other.remove(FIRST)
        for each in (one, other, opened()):
            assert each.segments() == [SECOND]
            assert not each.path(FIRST).exists()

    def test_other_files_are_none_of_ours(
        self, opened: Open, request: pytest.FixtureRequest
    ) -> None:
        one = opened()
        publish(one, FIRST, b"ten rows")
        for name in ("notes.txt", f"{FIRST.name}.part", f"sub/{FIRST.name}"):
            if isinstance(one, BucketStorage):
                bucket: Bucket = request.getfixturevalue("bucket")
                bucket.client().put_object(Bucket=bucket.name, Key=f"archive/{name}", Body=b"x")
            else:
                assert isinstance(one, DirectoryStorage)
                (one.root / name).parent.mkdir(exist_ok=True, parents=True)
                (one.root / name).write_bytes(b"x")
        assert one.segments() == [FIRST]


class TestArchive:
    async def test_it_is_filled_queried_and_read_back(self, log: EventLog, opened: Open) -> None:
        await log.append(chat_events(900))
        async with Archiver(log, opened(), rolling=Rolling(max_rows=100)) as archiver:
            segments = await archiver.run_once()
        assert len(segments) > log.partition_count
        await log.append(chat_events(50, seed=9))
        count = sum(head.n for head in await log.heads())
        storage = opened()
        async with Warehouse(log, storage) as warehouse:
            for _ in range(2):
                table = await warehouse.query("SELECT count(*), count(DISTINCT id) FROM events")
                assert list(table.to_pylist()[0].values()) == [count, count]
        for partition in range(log.partition_count):
            position = await ArchivedPast(storage).position(partition)
            read = archived(opened(), partition)
            assert read == await log.read_raw(partition, START, position.n)

    async def test_a_backlog_is_copied_by_processes(self, log: EventLog, opened: Open) -> None:
        await log.append(chat_events(1200))
        rolling = Rolling(max_rows=200)
        async with (
            Copiers(1, process_rows=1) as copiers,
            Archiver(log, opened(), rolling=rolling, copiers=copiers) as archiver,
        ):
            segments = await archiver.run_once()
        assert sum(segment.row_count for segment in segments) == 1200
        catalogue = Catalogue(opened())
        for partition, head in enumerate(await log.heads()):
            assert catalogue.coverage(partition).position == head

    async def test_two_archivers_of_the_same_partitions_write_each_sequence_once(
        self, log: EventLog, opened: Open
    ) -> None:
        await log.append(chat_events(600))
        # The same owner name gives both the same leases: each believes that it is alone.
        archivers = [
            Archiver(log, opened(), owner="same", rolling=Rolling(max_rows=size))
            for size in (40, 60)
        ]
        await asyncio.gather(*(archiver.run_once() for archiver in archivers))
        await archivers[0].close()
        for partition, head in enumerate(await log.heads()):
            coverage = Catalogue(opened()).coverage(partition)
            assert coverage.position == head
            assert coverage.spare == coverage.stranded == ()

    async def test_a_rewritten_segment_is_queried_as_it_is_now(
        self, log: EventLog, opened: Open
    ) -> None:
        await log.append(chat_events(300))
        storage, other = opened(), opened()
        async with Archiver(log, storage) as archiver:
            segments = await archiver.run_once()
        counting = "SELECT count(*) FROM events WHERE id = 'gone'"
        async with Warehouse(None, other) as warehouse:
            assert (await warehouse.query(counting)).column(0).to_pylist() == [0]
            for segment in segments:
                changes = segment_changes(storage, segment, without_id, lambda *_: True)
                rewrite_segment(storage, segment, changes, log.codec)
            assert (await warehouse.query(counting)).column(0).to_pylist() == [300]
        assert storage.temporary_count() == 0


def without_id(entry: RawEntry) -> bytes | None:
    start, _, rest = entry.raw.partition(b'"id":"')
    return start + b'"id":"gone"' + rest[rest.index(b'"') + 1 :]
