"""An archive in a bucket: the bucket goes away, archivers are killed, somebody is erased."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from analytics import Archiver, Catalogue, Rolling, Warehouse, archiver, open_storage, storage_of
from bench.events import chat_events
from bridge import Bridge
from bridge.erasing import erase
from eventlog import EventLog, MessageReceived
from eventlog.errors import ArchiveUnavailable
from eventlog.ids import START
from eventlog.settings import environment_of
from service.checks import examine
from service.wiring import new_archiver
from tests.archives import archived
from tests.buckets import Bucket, Exchange, front, ignoring_conditions
from tests.support import eventually


def open_log(server_url: str, bucket: Bucket, endpoint_url: str, machine: str = "one") -> EventLog:
    """Return a log whose archive is in the bucket; each machine has a data directory of its own."""
    return EventLog.open(
        server_url,
        key_prefix=bucket.name,
        partition_count=2,
        archive_dir=f"s3://{bucket.name}/archive",
        s3_endpoint_url=endpoint_url,
        data_dir=str(bucket.folder / machine),
        max_retries=0,
    )


def copies(data: Path) -> list[Path]:
    return list((data / "archive-cache").rglob("*.parquet"))


async def test_all_goes_on_while_the_bucket_is_away(
    server_url: str,
    bucket: Bucket,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    away = threading.Event()
    refused = 0

    def going_away(exchange: Exchange) -> Exchange:
        nonlocal refused
        if away.is_set():
            refused += 1
            raise ConnectionError
        return exchange

    caplog.set_level("INFO", "eventlog")
    monkeypatch.setattr(archiver, "LONGEST_PAUSE_S", 0.2)
    monkeypatch.setattr(archiver, "POLL_INTERVAL_S", 0.05)
    with front(bucket.endpoint_url, going_away) as url:
        away.set()
        log = open_log(server_url, bucket, url)
        async with Bridge(log) as bridge:
            archiving = Archiver(log, storage_of(log.settings), rolling=Rolling(rows=1))
            stop = asyncio.Event()
            running = asyncio.create_task(archiving.run(stop))
            session = await bridge.sessions.resolve("telegram", 7)
            await bridge.received(session, "hello", message_id=1)
            await eventually(lambda: refused > 3)
            [entry] = (await bridge.history(session)).entries[-1:]
            assert entry.event.text == "hello"
            verdicts = {finding.check: finding.verdict for finding in await examine(log)}
            assert verdicts["read models"] == "fine"
            assert verdicts["archive"] == "act"
            with pytest.raises(ArchiveUnavailable, match=f"s3://{bucket.name}/archive"):
                async with Warehouse.open(log) as warehouse:
                    await warehouse.query("FROM messages")
            away.clear()
            heads = await log.heads()

            async def is_archived() -> bool:
                statuses = await new_archiver(log).status()
                return [status.position for status in statuses] == heads

            await eventually(is_archived)
            stop.set()
            await running
            await archiving.close()
    told = [r.event for r in caplog.records if r.name == "eventlog.archiver"]
    assert told.count("archive_away") == told.count("archive_back") == 1
    assert "archive_failed" not in told


@pytest.mark.parametrize("knows_conditions", [True, False])
async def test_what_is_erased_is_gone_from_the_bucket_and_from_every_cache(
    server_url: str, bucket: Bucket, knows_conditions: bool
) -> None:
    def pass_on(exchange: Exchange) -> Exchange:
        return exchange if knows_conditions else ignoring_conditions(exchange)

    secret = "SELECT count(*) AS n FROM messages WHERE text LIKE '%unspeakable%'"
    with front(bucket.endpoint_url, pass_on) as url:
        async with open_log(server_url, bucket, url) as log:
            await log.append(chat_events(200))
            message = MessageReceived(conversation="telegram:7", sender="7", text="unspeakable")
            await log.append(message)
            async with new_archiver(log) as archiving:
                await archiving.run_once()
            other = log.settings.__class__(
                archive_dir=log.settings.archive_dir,
                s3_endpoint_url=url,
                data_dir=str(bucket.folder / "two"),
            )
            storage = open_storage(other.archive_place, other)
            async with Warehouse(None, storage) as elsewhere:
                assert (await elsewhere.query(secret)).to_pylist() == [{"n": 1}]
                report = await erase(log, chat="telegram:7")
                assert report.is_complete
                assert (await elsewhere.query(secret)).to_pylist() == [{"n": 0}]
            async with Warehouse.open(log) as warehouse:
                assert (await warehouse.query(secret)).to_pylist() == [{"n": 0}]
            assert [c.gaps for c in Catalogue(storage).scan().values()] == [(), ()]
            [finding] = [each for each in await examine(log) if each.check == "archive"]
            assert finding.verdict == ("fine" if knows_conditions else "look")
    for machine in ("one", "two"):
        kept = copies(bucket.folder / machine)
        assert kept
        assert not any(b"unspeakable" in path.read_bytes() for path in kept)


async def test_archivers_that_are_killed_leave_each_sequence_once(
    server_url: str, bucket: Bucket
) -> None:
    async with open_log(server_url, bucket, bucket.endpoint_url) as log:
        await log.append(chat_events(300))
        for step, count in (("written", 2), ("linked", 2)):
            killed = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.fault.archiving_process", step, str(count)),
                env={**os.environ, **environment_of(log.settings)},
            )
            assert await killed.wait() == -signal.SIGKILL
        storage = storage_of(log.settings)
        there = len(storage.segments())
        assert there >= 2  # the second archiver died when it had put its second one
        assert storage.temporary_count() > 0
        async with Archiver(log, storage, owner="the same") as archiving:
            await archiving.run_once()
        for partition, head in enumerate(await log.heads()):
            coverage = Catalogue(storage).coverage(partition)
            assert coverage.position == head
            assert coverage.spare == ()
            assert archived(storage, partition) == await log.read_raw(partition, START, head.n)
        assert storage.sweep(age_s=-1) > 0
        assert storage.temporary_count() == 0
