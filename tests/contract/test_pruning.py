"""A query opens the files and row groups that can hold what it asks for, and no others."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from analytics import Archiver, DirectoryStorage, Rolling, Warehouse
from eventlog import EventLog, MessageReceived

DAYS_MS = [1_763_596_800_000 + day * 86_400_000 for day in range(3)]  # from 2025-11-20
PER_DAY = 200
CHATS = [f"chat:{n}" for n in range(12)]


class Read(NamedTuple):
    files: int
    row_groups: int
    rows: int


@pytest.fixture
async def warehouse(log: EventLog, tmp_path: Path) -> AsyncIterator[Warehouse]:
    """Three days of twelve chats in four partitions: a file each, with several row groups."""
    sequences = [0] * log.partition_count
    for ms in DAYS_MS:
        async with log.client.pipeline(transaction=False) as pipe:
            for number in range(PER_DAY * len(CHATS)):
                event = MessageReceived(
                    conversation=CHATS[number % len(CHATS)],
                    session=f"s{number % len(CHATS)}",
                    text="x" * 40,
                    occurred_at=ms * 1000,
                )
                partition = log.partition_of(event.conversation)
                sequences[partition] += 1
                place = f"{ms}-{sequences[partition]}"
                pipe.xadd(log.keys.stream(partition), {"e": log.codec.encode(event)}, id=place)
                pipe.set(log.keys.head(partition), place)
            await pipe.execute()
    async with Archiver(log, DirectoryStorage(tmp_path), rolling=Rolling(max_rows=10**6)) as made:
        await made.run_once()
    async with Warehouse.open(log, tmp_path) as opened:
        yield opened


async def read(warehouse: Warehouse, sql: str, *parameters: Any) -> Read:
    """Return what the archive's scan of the query read, as DuckDB counts it."""
    table = await warehouse.query(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", parameters)
    plan = json.loads(table.column("explain_value")[0].as_py())
    found = [each for each in _scans(plan["operator"][0]) if each["name"] == "READ_PARQUET"]
    if not found:
        return Read(0, 0, 0)  # the plan knows that there is nothing
    [scan] = found
    about = scan["extra_info"]
    groups = scan.get("row_groups_scanned", 0)
    return Read(int(about["Total Files Read"]), groups, scan["intermediate_rows"])


def _scans(node: dict[str, Any]) -> list[dict[str, Any]]:
    below = [each for child in node.get("children", []) for each in _scans(child)]
    return [*([node] if "SCAN" in node["type"] else []), *below]


async def test_everything_is_read_where_everything_is_asked_for(warehouse: Warehouse) -> None:
    found = await read(warehouse, "SELECT count(text) FROM events")
    assert found == Read(12, 12, 3 * PER_DAY * len(CHATS))


async def test_a_day_opens_its_files_alone(warehouse: Warehouse) -> None:
    sql = "SELECT count(text) FROM events WHERE day = ?"
    assert await read(warehouse, sql, "2025-11-21") == Read(4, 4, PER_DAY * len(CHATS))
    assert (await read(warehouse, sql, "2020-01-01")).files == 0
    sql = "SELECT count(text) FROM events WHERE day >= ?"
    assert (await read(warehouse, sql, "2025-11-21")).files == 8


async def test_a_partition_opens_its_files_alone(warehouse: Warehouse, log: EventLog) -> None:
    partition = log.partition_of(CHATS[0])
    chats = sum(log.partition_of(chat) == partition for chat in CHATS)
    sql = "SELECT count(text) FROM events WHERE partition = ? AND day = '2025-11-20'"
    assert await read(warehouse, sql, partition) == Read(1, 1, PER_DAY * chats)


@pytest.mark.parametrize("column", ["conversation", "session"])
async def test_a_conversation_or_session_reads_the_row_groups_of_its_partition(
    warehouse: Warehouse, column: str
) -> None:
    sql = f"SELECT count(text) FROM events WHERE {column} = ?"
    name = CHATS[0] if column == "conversation" else "s0"
    found = await read(warehouse, sql, name)
    assert (found.row_groups, found.rows) == (3, 3 * PER_DAY)
    assert (await read(warehouse, sql, "nobody")).row_groups == 0


async def test_a_time_reads_the_row_groups_that_have_it(warehouse: Warehouse) -> None:
    sql = "SELECT count(text) FROM messages WHERE occurred_at >= '2025-11-22'"
    assert (await read(warehouse, sql)).row_groups == 4


async def test_what_the_names_say_is_what_the_rows_said(
    warehouse: Warehouse, log: EventLog
) -> None:
    """Partition and day of archived rows are read off the file's name, those of the tail are not."""
    await log.append(MessageReceived(conversation=CHATS[0], text="now"))
    found = await warehouse.query(
        "SELECT DISTINCT conversation, partition, day = appended_at::DATE AS is_day FROM events"
    )
    assert {(row["conversation"], row["partition"]) for row in found.to_pylist()} == {
        (chat, log.partition_of(chat)) for chat in CHATS
    }
    assert set(found.column("is_day").to_pylist()) == {True}
