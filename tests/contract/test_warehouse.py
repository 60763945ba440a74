"""SQL over archive and live tail: each event exactly once, fresh, and errors that say why."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import pytest

from analytics import VIEWS, Archiver, DirectoryStorage, Rolling, Warehouse, connect
from analytics.tail import BULK_ENTRIES
from analytics.warehouse import _interruptible
from bench.events import chat_events
from eventlog import (
    EventLog,
    MessageReceived,
)
from eventlog.errors import HistoryGap, QueryFailed
from eventlog.ids import EntryId
from tests.querying import rows

ENDLESS = "SELECT sum(a.range * b.range) FROM range(10000000) a, range(100000) b"
MIDNIGHT_MS = 1_763_596_800_000


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tmp_path / "archive"


async def places(warehouse: Warehouse) -> list[tuple[Any, ...]]:
    return await rows(warehouse, "SELECT partition, sequence FROM events ORDER BY ALL")


async def expected_places(log: EventLog) -> list[tuple[int, int]]:
    return [(p, n) for p, head in enumerate(await log.heads()) for n in range(1, head.n + 1)]


async def test_each_event_is_there_once_wherever_the_archive_ends(
    log: EventLog, archive: Path
) -> None:
    """No archive, half an archive, an archive that moves while the tail is kept, all archived."""
    events = chat_events(4000)
    archiver = Archiver(log, DirectoryStorage(archive), rolling=Rolling(max_rows=150))
    async with Warehouse.open(log, archive) as warehouse:
        for start in range(0, 4000, 500):
            await log.append(events[start : start + 500])
            assert await places(warehouse) == await expected_places(log)
            if start % 1000 == 500:
                heads = await log.heads()
                half = [EntryId(head.ms, head.n // 2) for head in heads]
                await archiver.archive_until(half)
                assert await places(warehouse) == await expected_places(log)
        await archiver.run_once()
        assert await places(warehouse) == await expected_places(log)
        counts = dict(await rows(warehouse, "SELECT type, count(*) FROM events GROUP BY type"))
    await archiver.close()
    assert counts == Counter(event.type for event in events)


async def test_queries_beside_a_working_archiver_never_miss_or_double(
    log: EventLog, archive: Path
) -> None:
    await log.append(chat_events(2000))
    archiver = Archiver(log, DirectoryStorage(archive), rolling=Rolling(max_rows=60))
    archiving = asyncio.create_task(archiver.archive_until(await log.heads()))
    async with Warehouse.open(log, archive) as warehouse:
        while not archiving.done():
            assert await places(warehouse) == await expected_places(log)
    await archiving
    await archiver.close()


async def test_a_query_sees_what_was_appended_just_before(log: EventLog, archive: Path) -> None:
    async with Warehouse.open(log, archive) as warehouse:
        for number in range(5):
            await log.append(MessageReceived(conversation=f"c{number}", text="x"))
            assert await rows(warehouse, "SELECT count(*) FROM messages") == [(number + 1,)]


async def test_a_long_tail_is_read_in_bulk_and_goes_on(log: EventLog, archive: Path) -> None:
    said = [MessageReceived(conversation="c", text=str(n)) for n in range(BULK_ENTRIES + 300)]
    async with Warehouse.open(log, archive) as warehouse:
        for start in (0, BULK_ENTRIES):
            await log.append(said[start : start + BULK_ENTRIES])
            texts = await rows(warehouse, "SELECT text FROM messages ORDER BY sequence")
            assert [text for (text,) in texts] == [e.text for e in said[: start + BULK_ENTRIES]]
    partition = log.partition_of("c")
    await log.client.xtrim(log.keys.stream(partition), maxlen=BULK_ENTRIES, approximate=False)
    async with Warehouse.open(log, archive) as warehouse:
        with pytest.raises(HistoryGap, match=f"partition {partition}: entry 1 is neither"):
            await warehouse.query("FROM events")


async def test_an_empty_log_and_archive_give_typed_empty_views(
    log: EventLog, archive: Path
) -> None:
    async with Warehouse.open(log, archive) as warehouse:
        for view in VIEWS:
            table = await warehouse.query(f"SELECT * FROM {view}")
            assert len(table) == 0
            assert all(str(field.type) != "null" for field in table.schema)


async def test_an_archive_is_queried_without_a_server(log: EventLog, archive: Path) -> None:
    await log.append(chat_events(300))
    archiver = Archiver(log, DirectoryStorage(archive))
    await archiver.run_once()
    await archiver.close()
    await log.close()
    async with Warehouse.open(None, archive) as warehouse:
        assert await rows(warehouse, "SELECT count(*) FROM events") == [(300,)]
    connection = connect(archive)
    assert connection.execute("SELECT count(*) FROM events").fetchone() == (300,)
    connection.close()


async def test_a_log_in_memory_can_be_queried_too(archive: Path) -> None:
    async with (
        EventLog.in_memory(partition_count=2) as log,
        Warehouse.open(log, archive) as warehouse,
    ):
        await log.append(chat_events(200))
        assert await places(warehouse) == await expected_places(log)


async def test_times_are_naive_utc(log: EventLog, archive: Path) -> None:
    await log.append(MessageReceived(conversation="c", text="x", occurred_at=1_000_000))
    async with Warehouse.open(log, archive) as warehouse:
        [found] = await rows(
            warehouse, "SELECT typeof(occurred_at), typeof(appended_at), occurred_at FROM events"
        )
        assert found[:2] == ("TIMESTAMP", "TIMESTAMP")
        assert found[2].isoformat() == "1970-01-01T00:00:01"


async def test_a_wreck_is_a_row_and_its_text_is_shown_where_it_is_text(
    log: EventLog, archive: Path
) -> None:
    for n, raw in enumerate((b"\xff\xfe", b'{"type":"shop.sold","cents":5}'), 1):
        await log.client.xadd(log.keys.stream(0), {"e": raw}, id=f"{MIDNIGHT_MS}-{n}")
        await log.client.set(log.keys.head(0), f"{MIDNIGHT_MS}-{n}")
    for _ in range(2):
        async with Warehouse.open(log, archive) as warehouse:
            assert await rows(
                warehouse, "SELECT sequence, raw ->> '$.cents' FROM events ORDER BY sequence"
            ) == [(1, None), (2, "5")]
        archiver = Archiver(log, DirectoryStorage(archive))
        await archiver.run_once()
        await archiver.close()


# --- what goes wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELECT * FROM nowhere", "nowhere"),
        ("SELEC 1", "syntax error"),
        ("SELECT 1; SELECT 2", "one statement"),
        ("", "one statement"),
        ("COPY (SELECT 1) TO 'x.csv'", "one statement"),
        ("CREATE TABLE t (a int)", "one statement"),
        ("SELECT error('mine')", "mine"),
    ],
)
async def test_a_refused_query_says_why_and_which_views_there_are(
    log: EventLog, archive: Path, sql: str, words: str
) -> None:
    async with Warehouse.open(log, archive) as warehouse:
        with pytest.raises(QueryFailed, match=words) as caught:
            await warehouse.query(sql)
        assert caught.value.remedy
        assert await rows(warehouse, "SELECT count(*) FROM events") == [(0,)]  # it goes on


async def test_a_closed_warehouse_says_so(archive: Path) -> None:
    warehouse = await Warehouse.open(None, archive)
    await warehouse.close()
    await warehouse.close()
    with pytest.raises(QueryFailed, match="not open"):
        await warehouse.query("SELECT 1")


async def test_a_cancelled_query_stops_and_the_next_one_works(archive: Path) -> None:
    async with Warehouse.open(None, archive) as warehouse:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await warehouse.query(ENDLESS)
        assert await rows(warehouse, "SELECT 1") == [(1,)]


async def test_a_query_cancelled_between_two_statements_stops_as_well() -> None:
    class Connection:
        def __init__(self) -> None:
            self.ours = duckdb.connect()
            self.was_interrupted = threading.Event()

        def interrupt(self) -> None:
            self.ours.interrupt()
            self.was_interrupted.set()

    def work() -> Any:
        has_begun.set()
        connection.was_interrupted.wait(10)  # there was nothing to interrupt
        try:
            return connection.ours.sql(ENDLESS).to_arrow_table()
        finally:
            has_ended.set()

    connection: Any = Connection()
    has_begun, has_ended = threading.Event(), threading.Event()
    query = asyncio.create_task(_interruptible(connection, work))
    await asyncio.to_thread(has_begun.wait, 10)
    query.cancel()
    await asyncio.sleep(0)
    query.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(query, 10)
    assert has_ended.is_set()
    connection.ours.close()


async def test_a_query_cannot_see_the_programs_variables(archive: Path) -> None:
    secret = duckdb.sql("SELECT 1 AS a")
    assert secret is not None
    async with Warehouse.open(None, archive) as warehouse:
        with pytest.raises(QueryFailed, match="secret"):
            await warehouse.query("SELECT * FROM secret")
