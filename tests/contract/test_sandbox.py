"""The sandbox as its user meets it: fresh answers, limits that hold, nothing left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import psutil
import pytest

from analytics import VIEWS, Archiver, DirectoryStorage, Limits, Sandbox, Warehouse
from analytics.sandbox import landlock
from analytics.sandbox.wire import Mode
from bench.events import chat_events
from eventlog import EventLog, MessageReceived
from eventlog.errors import QueryFailed, QueryTooLarge
from eventlog.ids import EntryId
from tests.support import eventually

MODES: list[Mode] = ["landlock", "descriptors"] if landlock.abi() else ["descriptors"]
NOON = datetime.fromisoformat("2026-01-02T12:00:00")
FOREVER = "SELECT sum(a.range * b.range) FROM range(100000000) a, range(100000000) b"


@pytest.fixture
async def half_archived(log: EventLog, tmp_path: Path) -> Path:
    """An archive that holds half of the log's 600 events."""
    archive = tmp_path / "archive"
    await log.append(chat_events(600))
    async with Archiver(log, DirectoryStorage(archive)) as archiver:
        await archiver.archive_until([EntryId(h.ms, h.n // 2) for h in await log.heads()])
    return archive


@pytest.mark.parametrize("mode", MODES)
async def test_all_views_answer_as_the_warehouse_does(
    mode: Mode, log: EventLog, half_archived: Path
) -> None:
    counts = " UNION ALL ".join(
        f"SELECT '{view}' AS name, count(*) AS rows, md5(string_agg(v::VARCHAR, '' ORDER BY v::VARCHAR))"
        f" FROM {view} AS v"
        for view in VIEWS
    )
    sql = f"FROM ({counts}) ORDER BY ALL"
    async with (
        Warehouse.open(log, half_archived) as warehouse,
        Sandbox.open(log, half_archived, mode=mode) as sandbox,
    ):
        assert (await sandbox.query(sql)).equals(await warehouse.query(sql))
        await log.append(MessageReceived(conversation="c", text="just now"))
        found = await sandbox.query("SELECT text FROM messages WHERE conversation = ?", ["c"])
    assert found.to_pylist() == [{"text": "just now"}]


async def test_parameters_keep_their_types(tmp_path: Path) -> None:
    given = [None, True, 7, 2**40, 0.5, "o'brien", b"\0x", NOON, Decimal("1.50")]
    sql = "SELECT " + ", ".join(f"? AS c{n}" for n in range(len(given)))
    async with Sandbox.open(None, tmp_path, spare_count=0) as sandbox:
        assert list((await sandbox.query(sql, given)).to_pylist()[0].values()) == given


async def test_types_that_need_more_than_bytes_become_plain(tmp_path: Path) -> None:
    async with Sandbox.open(None, tmp_path, spare_count=0) as sandbox:
        table = await sandbox.query(
            "SELECT 'a'::ENUM('a', 'b') AS e, ['b'::ENUM('b')] AS l, NULL AS n, 5::BIGNUM AS big,"
            " {'k': [1, NULL]} AS s, MAP {'a': 1} AS m, [] AS none"
        )
    row = table.to_pylist()[0]
    assert (row["e"], row["l"], row["n"], row["none"]) == ("a", ["b"], None, [])
    assert (row["s"], row["m"]) == ({"k": [1, None]}, [("a", 1)])
    assert "dictionary" not in str(table.schema)


async def test_what_is_wrong_with_a_query_is_said_in_duckdbs_words(tmp_path: Path) -> None:
    async with Sandbox.open(None, tmp_path, spare_count=0) as sandbox:
        with pytest.raises(QueryFailed, match=r"(?s)nme.*not found.*Views: events, messages"):
            await sandbox.query("SELECT nme FROM messages")


async def test_a_damaged_segment_is_named_without_its_place(half_archived: Path) -> None:
    damaged = damage_one(half_archived)
    async with Sandbox.open(None, half_archived, spare_count=0) as sandbox:
        with pytest.raises(QueryFailed) as failure:
            await sandbox.query("FROM events")
    assert damaged.name in str(failure.value)
    assert str(half_archived) not in str(failure.value)


async def test_rows_and_bytes_are_bounded(tmp_path: Path) -> None:
    async with Sandbox.open(None, tmp_path, spare_count=0) as sandbox:
        table = await sandbox.query("FROM range(10)", limits=Limits(row_count=10))
        assert table.num_rows == 10
        with pytest.raises(QueryTooLarge, match="more than 9 rows"):
            await sandbox.query("FROM range(10)", limits=Limits(row_count=9))
        with pytest.raises(QueryTooLarge, match="1,000 bytes"):
            await sandbox.query("SELECT repeat('x', 2000)", limits=Limits(result_bytes=1000))
        with pytest.raises(QueryTooLarge, match="text and parameters"):
            await sandbox.query("SELECT ?", ["x" * 2000], limits=Limits(sql_bytes=1000))


async def test_a_cancelled_query_ends_with_its_process(tmp_path: Path) -> None:
    me = psutil.Process()
    before = me.children()
    async with Sandbox.open(None, tmp_path, spare_count=0) as sandbox:
        asking = asyncio.create_task(sandbox.query(FOREVER))
        await eventually(lambda: any(busy(p) for p in me.children() if p not in before))
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert me.children() == before  # no zombie either


async def test_closing_ends_what_runs(tmp_path: Path) -> None:
    me = psutil.Process()
    before = me.children()
    sandbox = await Sandbox.open(None, tmp_path)
    asking = asyncio.create_task(sandbox.query(FOREVER))
    await eventually(lambda: any(busy(p) for p in me.children() if p not in before))
    await sandbox.close()
    with pytest.raises(QueryFailed, match="not open"):
        await asking
    assert me.children() == before


async def test_many_at_once_take_turns_in_order(tmp_path: Path) -> None:
    me = psutil.Process()
    before = len(me.children())
    done: list[int] = []
    counts: list[int] = []
    async with Sandbox.open(None, tmp_path, running_count=1, spare_count=1) as sandbox:

        async def ask(number: int) -> None:
            await sandbox.query("SELECT ?", [number])
            done.append(number)
            counts.append(len(me.children()) - before)

        await asyncio.gather(*(ask(number) for number in range(4)))
    assert done == [0, 1, 2, 3]
    assert max(counts) <= 2


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGSEGV])
async def test_a_process_that_dies_is_an_error_and_the_next_query_is_answered(
    sent: signal.Signals, tmp_path: Path
) -> None:
    me = psutil.Process()
    before = me.children()
    async with Sandbox.open(None, tmp_path, spare_count=0) as sandbox:
        asking = asyncio.create_task(sandbox.query(FOREVER))
        await eventually(lambda: any(busy(p) for p in me.children() if p not in before))
        [process] = [p for p in me.children() if p not in before]
        process.send_signal(sent)
        with pytest.raises(QueryTooLarge, match=sent.name):
            await asking
        assert (await sandbox.query("SELECT 1 AS one")).to_pylist() == [{"one": 1}]


async def test_a_spare_process_that_was_killed_is_not_used(tmp_path: Path) -> None:
    me = psutil.Process()
    before = me.children()
    async with Sandbox.open(None, tmp_path) as sandbox:
        [spare] = await eventually(lambda: [p for p in me.children() if p not in before])
        spare.kill()
        await eventually(lambda: not spare.is_running())
        assert (await sandbox.query("SELECT 1 AS one")).to_pylist() == [{"one": 1}]


ASKING = """
import asyncio, sys
from analytics import Limits, Sandbox

async def main():
    limits = Limits(timeout_s=float(sys.argv[3]))
    async with Sandbox.open(None, sys.argv[1], limits=limits) as sandbox:
        await sandbox.query(sys.argv[2])

asyncio.run(main())
"""


async def asking_parent(folder: Path, timeout_s: float) -> tuple[psutil.Popen, psutil.Process]:
    """Return a process with a sandbox, and the one in the cage, which is at its query."""
    parent = psutil.Popen(
        [sys.executable, "-c", ASKING, str(folder), FOREVER, str(timeout_s)],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.DEVNULL,
    )
    return parent, await eventually(
        lambda: next((child for child in parent.children() if busy(child)), None), 30
    )


async def test_a_killed_parent_takes_its_children_along(tmp_path: Path) -> None:
    parent, child = await asking_parent(tmp_path, 60)
    others = parent.children()
    parent.kill()
    parent.wait()
    await eventually(lambda: not any(map(alive, [child, *others])))


async def test_the_kernel_ends_a_query_whose_parent_does_not(tmp_path: Path) -> None:
    parent, child = await asking_parent(tmp_path, 0.5)
    try:
        parent.suspend()
        await eventually(lambda: not alive(child))
    finally:
        parent.kill()
        parent.wait()


async def test_the_childs_environment_holds_nothing_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVENTLOG_TOKEN", "secret")
    before = psutil.Process().children()
    async with Sandbox.open(None, tmp_path, running_count=1) as sandbox:
        await sandbox.query("SELECT 1")
        await eventually(lambda: any(p not in before for p in psutil.Process().children()))
        [spare] = [p for p in psutil.Process().children() if p not in before]
        assert "EVENTLOG_TOKEN" not in spare.environ()
        assert os.getsid(spare.pid) == spare.pid


def damage_one(archive: Path) -> Path:
    damaged = next(archive.rglob("*.parquet"))
    damaged.write_bytes(b"PAR1 no longer PAR1")
    return damaged


def busy(process: psutil.Process) -> bool:
    """Return whether a child is at its query: it has left the threads of its start behind."""
    try:
        return process.num_threads() > 1 and process.rlimit(psutil.RLIMIT_FSIZE) == (0, 0)
    except psutil.Error:
        return False


def alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
