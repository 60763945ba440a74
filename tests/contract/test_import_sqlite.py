"""An older bridge's database moved into a log: once and whole, and shown to be."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from analytics.warehouse import Warehouse
from bridge.bridge import Bridge
from bridge.importers import unit_import
from bridge.importers.detect import PARSERS
from bridge.importers.importing import import_paths, import_source
from bridge.importers.items import Imported
from bridge.importers.migration.checking import Checked, check_source
from bridge.importers.migration.mapping import load_mapping
from bridge.importers.report import ImportReport
from bridge.importers.source import Source
from eventlog.errors import ImportFailed, LogUnavailable
from eventlog.log import EventLog
from eventlog.redis_store import RedisStore
from projections.views.conversations import Conversations
from projections.views.dead_letters import DeadLetters
from projections.views.history import History
from projections.views.sessions import Sessions
from service.wiring import open_archiver
from tests.old_bridge import START_S, change, database, filled, insert, message, session


@pytest.fixture
def path(tmp_path):
    return filled(tmp_path / "history.db")


async def bring(log: EventLog, path: Path, *words: str, **more: Any) -> ImportReport:
    return await import_paths(log, [path], mapping=load_mapping(words), **more)


async def verify(log: EventLog, path: Path, tmp_path: Path, **more: Any) -> dict[str, Checked]:
    source = Source(path, format_name="sqlite", mapping=load_mapping([]))
    async with Warehouse.open(log, tmp_path / "archive") as warehouse:
        found = await check_source(log, warehouse, source, PARSERS["sqlite"], **more)
    return {each.label.partition("#")[2]: each for each in found}


async def ids(log: EventLog) -> list[str]:
    found = [await log.read(partition=p, limit=100_000) for p in range(log.partition_count)]
    return sorted(entry.event.id for entries in found for entry in entries)


def planted(found: dict[str, Checked]) -> list[str]:
    return [
        f"{table} {each.kind} {each.place}"
        for table, checked in found.items()
        for each in checked.differences
    ]


async def test_everything_comes_once_and_agrees_with_its_source(log, path, tmp_path):
    report = await bring(log, path)
    counts = {label: file.counts for label, file in report.files.items()}
    assert counts["history.db#messages"]["message"] == 500
    assert report.rejected_count == 0
    assert report.skipped == []
    again = await bring(log, path)
    assert again.events_added == 0
    found = await verify(log, path, tmp_path)
    assert {table: checked.record_count for table, checked in found.items()} == {
        "agent_sessions": 40,
        "messages": 500,
        "dead_letters": 9,
        "bridge_events": 30,
        "chats": 1,
        "links": 1,
    }
    assert all(checked.agrees for checked in found.values())


async def test_history_is_what_the_chat_was(log, path):
    await bring(log, path)
    page = await History(log).last("telegram:103", 1000)
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(
            "SELECT message_id, content, sender FROM messages WHERE chat_id = '103' ORDER BY id"
        ).fetchall()
    events = [entry.event for entry in page.entries]
    assert [(int(e.message_id), e.text, e.sender) for e in events] == rows
    assert len(rows) > 50


async def test_sessions_stand_where_they_stood(log, path):
    await bring(log, path)
    counts = await Sessions(log).counts()
    assert counts == {"pending": 5, "active": 10, "dormant": 5, "completed": 10, "failed": 10}
    completed = await Sessions(log).get("s2")
    assert completed is not None
    assert (completed.status, completed.ended_at) == ("completed", (START_S + 62) * 1_000_000)
    dormant = await Sessions(log).get("s1")
    assert dormant is not None
    assert (dormant.project, dormant.user, dormant.text) == ("valor", "ann", "fix it")


async def test_a_returning_user_finds_the_session(log, path):
    insert(path, "agent_sessions", [session(50, chat_id="900", sender="900", status="dormant")])
    insert(path, "agent_sessions", [session(51, chat_id="-7", sender="ann")])
    insert(path, "agent_sessions", [session(52, chat_id="-7", sender="bob", last_activity=9e9)])
    await bring(log, path)
    bridge = Bridge(log)
    assert (await bridge.sessions.resolve("telegram", "900")).id == "s50"
    assert (await bridge.sessions.resolve("telegram", "ann", "-7")).id == "s51"
    assert (await bridge.sessions.resolve("telegram", "bob", "-7")).id == "s52"
    mapped = await Conversations(log).get("telegram:-7")
    assert mapped is not None
    assert mapped.session == "s52"


async def test_a_chat_that_the_new_system_knows_goes_on_in_the_session_last_active(log, path):
    bridge = Bridge(log)
    for user in ("900", "901"):
        await bridge.sessions.resolve("telegram", user)
    own = await bridge.sessions.resolve("telegram", "901")
    insert(path, "agent_sessions", [session(60, chat_id="900", sender="900", last_activity=9e9)])
    insert(path, "agent_sessions", [session(61, chat_id="901", sender="901")])
    await bring(log, path)
    assert (await bridge.sessions.resolve("telegram", "900")).id == "s60"
    assert (await bridge.sessions.resolve("telegram", "901")).id == own.id


async def test_every_session_is_found_by_its_id(log, path):
    await bring(log, path)
    for number in range(40):
        found = await Bridge(log).sessions.get(f"s{number}")
        assert found is not None
        assert found.conversation == f"telegram:{100 + number % 7}"
        is_at_home = log.partition_of(found.id) == log.partition_of(found.conversation)
        home = await Sessions(log).home(found.id)
        assert home == (None if is_at_home else found.conversation)


async def test_one_session_for_two_records_of_an_id(log, tmp_path):
    path = database(tmp_path / "h.db")
    insert(path, "agent_sessions", [session(1), session(1, status="completed", last_activity=2e9)])
    report = await bring(log, path)
    assert report.counts()["session.repeated"] == 1
    assert (await Sessions(log).counts())["completed"] == 1
    assert len((await Sessions(log).list()).items) == 1


async def test_dead_letters_are_parked_for_replay(log, path):
    await bring(log, path)
    letters = (await DeadLetters(log).list(group="delivery")).items
    assert sorted(letter.letter for letter in letters) == [f"l{n}" for n in range(9)]


async def test_what_the_source_did_since_is_added(log, path, tmp_path):
    await bring(log, path)
    insert(path, "messages", [message(901), message(902)])
    change(
        path,
        "UPDATE agent_sessions SET status = 'done', last_activity = ? WHERE session_id = 's0'",
        [2e9],
    )
    found = await verify(log, path, tmp_path)
    assert planted(found) == [
        "agent_sessions session 1",
        "messages missing 501",
        "messages missing 502",
    ]
    assert (await bring(log, path)).events_added == 3
    assert all(checked.agrees for checked in (await verify(log, path, tmp_path)).values())


async def test_what_the_new_system_did_since_stands(log, path, tmp_path):
    await bring(log, path)
    bridge = Bridge(log)
    await bridge.sessions.complete("s0")
    await bridge.received("telegram:100", "after the move", message_id=5000)
    assert (await bring(log, path)).events_added == 0
    assert (await bridge.sessions.get("s0")).status == "completed"
    assert all(checked.agrees for checked in (await verify(log, path, tmp_path)).values())


async def test_bad_rows_are_reported_by_table_and_row_and_added_once_corrected(log, path):
    change(path, "UPDATE messages SET timestamp = 'soon' WHERE id = 7")
    change(path, "UPDATE dead_letters SET chat_id = NULL WHERE letter_id = 'l3'")
    report = await bring(log, path)
    assert [str(line) for line in report.rejected] == [
        "history.db#messages:7: 'soon' is no time",
        "history.db#dead_letters:4: no chat",
    ]
    change(path, "UPDATE messages SET timestamp = 5 WHERE id = 7")
    assert (await bring(log, path)).events_added == 1
    assert (await bring(log, path)).events_added == 0


async def test_strict_stops_at_the_first_bad_row(log, path):
    change(path, "UPDATE messages SET chat_id = NULL WHERE id = 7")
    with pytest.raises(ImportFailed, match=r"history\.db#messages:7: no chat"):
        await bring(log, path, strict=True)


async def test_a_moved_database_adds_nothing(log, path, tmp_path):
    await bring(log, path)
    assert (await bring(log, path.rename(tmp_path / "other.db"))).events_added == 0


async def test_a_database_whose_first_rows_were_deleted_does_not_come_again(log, path, tmp_path):
    await bring(log, path)
    change(path, "DELETE FROM messages WHERE id < 10")
    insert(path, "messages", [message(901)])
    with pytest.raises(
        ImportFailed, match=r"imported as '[0-9a-f]{16}', but its first row"
    ) as said:
        await bring(log, path)
    assert said.value.remedy.startswith("Go on with `--map name=")
    with pytest.raises(ImportFailed, match="its first row is another"):
        await verify(log, path, tmp_path)
    name = said.value.remedy.partition("name=")[2].partition("`")[0]
    assert (await bring(log, path, f"name={name}")).events_added == 1


async def test_another_database_at_the_same_path_comes_under_a_name_of_its_own(log, path):
    added = (await bring(log, path)).events_added
    path.unlink()
    filled(path, 100, seed=5)
    change(path, "UPDATE messages SET sender = 'eve' WHERE id = 1")
    assert added > (await bring(log, path, "name=other")).events_added > 100


@pytest.mark.parametrize("seed", range(4))
async def test_an_interrupted_import_ends_as_if_it_had_not_been(log, server_url, path, seed):
    rnd = random.Random(seed)
    calls = 0
    original = RedisStore.append

    async def append(store: RedisStore, *given: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == dies_at:
            raise LogUnavailable("gone")
        outcome = await original(store, *given)
        if calls > dies_at:
            raise LogUnavailable("gone")
        return outcome

    async with EventLog.open(server_url, key_prefix=f"whole{seed}", partition_count=4) as whole:
        await bring(whole, path)
        expected = await ids(whole)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unit_import, "BATCH_EVENTS", 40)
        patch.setattr(RedisStore, "append", append)
        dies_at = rnd.randint(1, 90)
        with pytest.raises((LogUnavailable, ImportFailed)):
            await bring(log, path)
    await bring(log, path)
    assert await ids(log) == expected, f"seed {seed}: died at {dies_at}"


async def test_verify_names_what_was_planted(log, path, tmp_path):
    await bring(log, path)
    change(path, "UPDATE messages SET content = 'forged' WHERE id = 100")
    change(path, "DELETE FROM messages WHERE id = 200")
    change(path, "UPDATE bridge_events SET event_type = 'other' WHERE event_id = 3")
    insert(path, "messages", [message(7000)])
    found = await verify(log, path, tmp_path, sample=100)
    assert sorted(planted(found)) == [
        "bridge_events changed 3",
        "messages changed 100",
        "messages extra 200",
        "messages missing 501",
    ]
    assert not found["messages"].agrees
    assert found["dead_letters"].agrees


async def test_verify_names_a_wrong_order_and_a_message_that_the_log_lost(log, tmp_path):
    path = database(tmp_path / "h.db")
    insert(path, "messages", [message(n, chat_id="77") for n in range(1, 9)])
    items = list(PARSERS["sqlite"](Source(path)))
    events = [item.events[0] for item in items if isinstance(item, Imported)]
    await log.append([*events[:2], events[3], events[2], *events[5:]])
    found = await verify(log, path, tmp_path)
    assert planted(found) == ["messages missing 5", "messages order 3"]


async def test_a_sample_is_the_same_each_time_and_differs_by_seed(log, path, tmp_path):
    await bring(log, path)
    first, again, other = [
        (await verify(log, path, tmp_path, sample=2, seed=seed))["messages"].compared_count
        for seed in (1, 1, 5)
    ]
    assert first == again != other


async def test_verify_reads_on_into_the_archive(server_url, path, tmp_path):
    async with EventLog.open(
        server_url, key_prefix="archived", partition_count=2, archive_dir=str(tmp_path / "archive")
    ) as log:
        await bring(log, path)
        async with open_archiver(log) as archiver:
            assert await archiver.run_once()
        assert all(checked.agrees for checked in (await verify(log, path, tmp_path)).values())


async def test_an_import_while_the_bridge_writes_is_of_one_moment(log, tmp_path):
    path = filled(tmp_path / "h.db", 300, wal=True)

    async def write() -> None:
        for number in range(1000, 1020):
            await asyncio.to_thread(insert, path, "messages", [message(number)])

    _, report = await asyncio.gather(write(), import_source(log, path))
    assert 300 <= report.counts()["message"] <= 320
    assert (await import_source(log, path)).events_added == 320 - report.counts()["message"]
