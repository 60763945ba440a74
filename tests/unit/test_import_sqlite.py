"""SQLite databases as items: rows to events, bad rows refused alone, bad files refused clearly."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bridge.importers.detect import detect_format, sources
from bridge.importers.items import Imported, Item, Rejected, Unit
from bridge.importers.migration import database as database_module
from bridge.importers.migration.mapping import load_mapping
from bridge.importers.source import Source
from bridge.importers.sqlite import parse
from eventlog.errors import ConfigurationError, ImportFailed
from eventlog.event import Event
from eventlog.vocabulary import (
    BridgeEvent,
    DeadLetterParked,
    MessageReceived,
    MessageSent,
    SessionStarted,
)
from tests.old_bridge import (
    START_S,
    change,
    database,
    filled,
    insert,
    message,
    session,
)

NOON_US = 1_714_564_800_000_000


def items(path: Path, *words: str) -> list[Item]:
    return list(parse(Source(path, mapping=load_mapping(words))))


def events(path: Path, *words: str) -> list[Event]:
    return [e for i in items(path, *words) if isinstance(i, Imported) for e in i.events]


def one(path: Path, table: str, row: dict[str, Any], *words: str) -> Any:
    insert(path, table, [row])
    [event] = events(path, *words)
    return event


@pytest.fixture
def path(tmp_path):
    return database(tmp_path / "history.db")


def test_a_message_with_all_there_is(path):
    event = one(path, "messages", message(7, "hello", message_type="photo", session_id="s1"))
    assert event == MessageReceived(
        conversation="telegram:100",
        id="telegram:100:7",
        occurred_at=NOON_US,
        session="s1",
        correlation_id=event.correlation_id,
        text="hello",
        sender="ann",
        message_id="7",
        message_type="media",
        platform="telegram",
    )
    assert event.correlation_id.endswith(":messages:1")


def test_a_message_with_hardly_anything(path):
    nothing = dict.fromkeys(("message_id", "direction", "sender", "content", "session_id"))
    event = one(path, "messages", message(7, **nothing))
    assert (event.text, event.sender, event.message_id) == ("", None, None)
    assert event.id == event.correlation_id


@pytest.mark.parametrize(
    "columns",
    [
        {"direction": "out"},
        {"direction": None, "sender": "Valor"},
        {"direction": None, "message_type": "response"},
        {"direction": "", "message_type": "acknowledgment"},
    ],
)
def test_what_the_bridge_said_was_sent(path, columns):
    assert isinstance(one(path, "messages", message(1, **columns)), MessageSent)


def test_what_has_no_field_is_kept(path):
    change(path, "ALTER TABLE messages ADD COLUMN metadata TEXT")
    change(path, "ALTER TABLE messages ADD COLUMN mood TEXT")
    event = one(
        path, "messages", message(1, mood="glad", metadata='{"a": [1]}', message_type="poll")
    )
    assert event.metadata == {"a": [1], "mood": "glad", "message_type": "poll"}


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"chat_id": None}, "no chat"),
        ({"chat_id": " "}, "no chat"),
        ({"timestamp": None}, "no time"),
        ({"timestamp": "yesterday"}, "'yesterday' is no time"),
        ({"direction": "sideways"}, "unknown direction 'sideways'"),
        ({"content": b"\xff\xfe"}, "2 bytes that are no text"),
    ],
)
def test_a_bad_row_is_refused_and_the_others_are_not(path, columns, reason):
    insert(path, "messages", [message(1), message(2, **columns), message(3)])
    found = items(path)
    assert [type(item) for item in found] == [Unit, Imported, Rejected, Imported]
    assert found[2] == Rejected(2, 2, reason)


def test_text_that_is_not_utf_8_is_refused_and_the_others_are_not(path):
    insert(path, "messages", [message(1), message(2)])
    change(path, "UPDATE messages SET content = CAST(x'41ff42' AS TEXT) WHERE id = 2")
    assert items(path)[2] == Rejected(2, 2, "not UTF-8 text")


def test_a_session_starts_once_however_many_records_it_has(path):
    insert(path, "agent_sessions", [session(1), session(1, status="completed"), session(2)])
    found = events(path)
    assert [event.session for event in found] == ["s1", "s2"]
    assert isinstance(found[0], SessionStarted)
    assert found[0].conversation == "telegram:101"
    assert (found[0].project, found[0].user, found[0].text) == ("valor", "ann", "fix it")
    assert found[0].metadata == {"tool_call_count": 3}
    assert found[0].occurred_at == (START_S + 1) * 1_000_000


def test_a_session_without_a_chat_is_its_own_conversation(path):
    assert one(path, "agent_sessions", session(1, chat_id=None)).conversation == "s1"


def test_a_dead_letter_is_parked_for_delivery(path):
    letter = {"letter_id": "l1", "chat_id": 42, "reply_to": 7, "text": "x" * 20_000}
    event = one(path, "dead_letters", {**letter, "created_at": START_S, "attempts": 2})
    assert isinstance(event, DeadLetterParked)
    assert (event.letter, event.group, event.attempts, event.reply_to) == ("l1", "delivery", 2, "7")
    assert event.text is not None
    assert len(event.text) == 20_000


def test_a_bridge_event_with_and_without_a_chat(path):
    row = {"event_type": "error", "timestamp": START_S, "data": '{"code": 5}', "project_key": "p"}
    insert(path, "bridge_events", [{**row, "chat_id": "42"}, row, {**row, "project_key": None}])
    found = events(path)
    assert [event.conversation for event in found] == ["telegram:42", "project:p", "bridge"]
    assert isinstance(found[0], BridgeEvent)
    assert (found[0].event_type, found[0].data) == ("error", {"code": 5})


def test_links_and_chats_become_events(tmp_path):
    found = events(filled(tmp_path / "h.db"))
    links = [e for e in found if isinstance(e, BridgeEvent) and e.event_type == "link"]
    chats = [e for e in found if isinstance(e, BridgeEvent) and e.event_type == "chat"]
    assert [e.data["url"] for e in links] == ["https://a.example"]
    assert [e.data["chat_name"] for e in chats] == ["Dev"]


def test_sessions_begin_before_what_is_said_in_them(tmp_path):
    units = [i.label for i in items(filled(tmp_path / "h.db")) if isinstance(i, Unit)]
    assert units[:2] == ["agent_sessions", "messages"]


def test_the_older_layout_without_directions(tmp_path):
    path = database(
        tmp_path / "h.db",
        schema="CREATE TABLE messages (id INTEGER PRIMARY KEY, chat_id TEXT NOT NULL, message_id"
        " INTEGER, sender TEXT, content TEXT, timestamp TIMESTAMP, message_type TEXT)",
    )
    row = message(1)
    del row["direction"]
    insert(path, "messages", [row, {**row, "sender": "Valor"}])
    assert [event.type for event in events(path)] == ["message.received", "message.sent"]


def test_a_layout_whose_messages_know_their_chat_by_the_session(tmp_path):
    path = database(
        tmp_path / "h.db",
        schema="CREATE TABLE sessions (id TEXT PRIMARY KEY, platform, platform_conversation_id,"
        " user_id, status, created_at, last_activity, metadata);"
        "CREATE TABLE messages (id INTEGER PRIMARY KEY, session_id, direction, sender_id,"
        " content_text, content_type, attachments, created_at, request_id, status, metadata)",
    )
    known = {"id": "s1", "platform": "discord", "platform_conversation_id": "7", "status": "done"}
    insert(path, "sessions", [{**known, "user_id": "u1", "created_at": START_S}])
    said = {"session_id": "s1", "direction": "inbound", "sender_id": "u1", "content_text": "hi"}
    files = '[{"url": "s3://b/a.png", "name": "a.png"}, "s3://b/b.png"]'
    row = {**said, "created_at": START_S, "attachments": files, "request_id": "r1"}
    insert(path, "messages", [row, {**row, "session_id": "s9"}, {**row, "attachments": "two"}])
    start, first, last = events(path)
    assert start.conversation == first.conversation == "discord:7"
    assert isinstance(first, MessageReceived)
    assert isinstance(last, MessageReceived)
    assert [(a.url, a.name) for a in first.attachments] == [
        ("s3://b/a.png", "a.png"),
        ("s3://b/b.png", None),
    ]
    assert first.metadata == {"request_id": "r1"}
    assert last.metadata == {"request_id": "r1", "attachments": "two"}
    assert [i.reason for i in items(path) if isinstance(i, Rejected)] == ["no chat"]


def test_tables_that_are_not_read_are_named(path):
    change(path, "CREATE TABLE settings (key TEXT)")
    change(path, "INSERT INTO settings VALUES ('a')")
    change(path, "CREATE TABLE message (id INTEGER PRIMARY KEY)")
    change(path, "CREATE TABLE sessions (session_id TEXT PRIMARY KEY, status, ts) WITHOUT ROWID")
    source = Source(path)
    assert list(parse(source)) == []
    assert dict(source.left_out) == {
        "settings": "unknown table of 1 rows",
        "message": "message without a column for conversation, time, text",
        "sessions": "rows without a number (WITHOUT ROWID, or virtual)",
    }


def test_a_table_of_any_name_is_read_as_mapped(tmp_path):
    path = database(
        tmp_path / "x.db",
        schema='CREATE TABLE "tg ""log" (peer INT, body TEXT, at INT, dir INT, rowid TEXT)',
    )
    change(path, "INSERT INTO \"tg \"\"log\" VALUES (42, 'hi', 1714564800000, 2, 'r')")
    table = 'tg "log'
    mapping = tmp_path / "map.json"
    mapping.write_text(
        '{"platform": "discord", "tables": {"tg \\"log": {"kind": "message",'
        ' "columns": {"direction": "dir"}, "values": {"direction": {"2": "out"}}}}}'
    )
    [event] = events(path, str(mapping), f"{table}.text=body", f"{table}.conversation=peer")
    assert isinstance(event, MessageSent)
    assert (event.conversation, event.text, event.occurred_at) == ("discord:42", "hi", NOON_US)
    assert event.metadata == {"rowid": "r"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["logs=message"], "'logs'.*There are: agent_sessions"),
        (["messages.text=body"], "messages.body.*There are: id, chat_id"),
        (["chats=message"], "without a column for text.*--map chats.text=COLUMN"),
    ],
)
def test_a_mapping_that_does_not_fit_is_named(path, words, said):
    with pytest.raises(ConfigurationError, match=said):
        items(path, *words)


def test_row_numbers_beyond_measure_are_an_error_with_a_remedy(path):
    change(path, "INSERT INTO messages (id, chat_id) VALUES (1152921504606846976, '1')")
    with pytest.raises(ImportFailed, match="numbered anew"):
        items(path)


def test_a_unit_keeps_its_name_while_rows_come_and_statuses_change(path):
    insert(path, "agent_sessions", [session(1)])
    insert(path, "messages", [message(1)])
    before = [i.names for i in items(path) if isinstance(i, Unit)]
    change(path, "UPDATE agent_sessions SET status = 'done', last_activity = 0")
    insert(path, "messages", [message(2)])
    assert [i.names for i in items(path) if isinstance(i, Unit)] == before
    assert len({*before, ("sqlite:bot:messages",)}) == 3


def test_a_database_may_be_named(path):
    insert(path, "messages", [message(1)])
    assert items(path, "name=bot")[0] == Unit(("sqlite:bot:messages",), "messages", has_lines=True)


@pytest.mark.parametrize("wal", [True, False])
def test_a_snapshot_is_of_one_moment_and_holds_nobody_up(tmp_path, wal):
    path = database(tmp_path / "h.db", wal=wal)
    insert(path, "agent_sessions", [session(1)])
    insert(path, "messages", [message(n) for n in range(1, 4)])
    found = parse(Source(path))
    seen = [next(found), next(found)]  # the session; messages are read later
    with closing(sqlite3.connect(path, timeout=0)) as writer:  # which would not wait
        writer.execute("INSERT INTO messages (chat_id, timestamp) VALUES ('1', 5)")
        writer.execute("DELETE FROM messages WHERE id = 2")
        writer.commit()
    assert [i.position for i in [*seen, *found] if isinstance(i, Imported)] == [1, 1, 2, 3]
    assert [i.position for i in items(path) if isinstance(i, Imported)] == [1, 1, 3, 4]


def test_the_source_is_not_written_to(tmp_path):
    path = filled(tmp_path / "h.db")
    before = path.read_bytes()
    items(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["h.db"]


def test_rows_still_in_the_write_ahead_log_are_read(tmp_path):
    path = database(tmp_path / "h.db", wal=True)
    with closing(sqlite3.connect(path)) as writer:
        writer.execute("INSERT INTO messages (chat_id, timestamp, content) VALUES ('1', 5, 'x')")
        writer.commit()
        assert (tmp_path / "h.db-wal").stat().st_size
        assert len(events(path)) == 1
        assert [s.label for s in sources([tmp_path]).sources] == ["h.db"]


def test_content_tells_a_database(tmp_path):
    assert detect_format(database(tmp_path / "history")) == "sqlite"


def test_an_empty_file_and_one_that_is_none_are_clear_errors(tmp_path):
    (tmp_path / "a.db").write_bytes(b"")
    (tmp_path / "b.sqlite").write_bytes(bytes(range(256)) * 64)
    with pytest.raises(ImportFailed, match=r"a\.db is empty"):
        sources([tmp_path / "a.db"])
    with pytest.raises(ImportFailed, match=r"no SQLite database.*Decrypt"):
        sources([tmp_path / "b.sqlite"])
    assert len(sources([tmp_path]).skipped) == 2


def test_a_torn_header_is_a_clear_error(tmp_path):
    (tmp_path / "a.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 4000)
    with pytest.raises(ImportFailed, match=r"a\.db cannot be read.*(Decrypt|damaged|integrity)"):
        items(tmp_path / "a.db")


def test_a_damaged_page_is_a_clear_error_after_what_stands_before_it(tmp_path):
    path = filled(tmp_path / "h.db", 3000, wal=True)
    content = bytearray(path.read_bytes())
    for start in range(len(content) // 2, len(content) - 8192, 4096):
        content[start : start + 64] = b"\xee" * 64
    path.write_bytes(content)
    found = []
    with pytest.raises(ImportFailed, match=r"h\.db cannot be read.*recover"):
        found.extend(parse(Source(path)))


def test_a_locked_database_is_a_clear_error(path, monkeypatch):
    monkeypatch.setattr(database_module, "LOCK_WAIT_S", 0.01)
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ImportFailed, match=r"locked.*Another program holds it"):
            items(path)


def test_a_database_whose_folder_takes_no_files_is_read(tmp_path):
    path = database(tmp_path / "h.db", wal=True)
    insert(path, "messages", [message(1)])
    (tmp_path / "h.db-shm").mkdir()  # where the index of a WAL database would go
    assert len(events(path)) == 1
