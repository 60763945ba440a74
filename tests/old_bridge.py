"""The database that an older bridge leaves behind: popoto-era tables, filled with real chat."""

from __future__ import annotations

import random
import re
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from itertools import cycle
from pathlib import Path
from typing import Any

CHAT = Path(__file__).parent / "data" / "irc-ubuntu"
START_S = 1_700_000_000

_SPOKEN = re.compile(r"\[\d\d:\d\d\] <([^>]+)> (.+)")

SCHEMA = """
CREATE TABLE messages (
    id INTEGER PRIMARY KEY, chat_id TEXT, message_id INTEGER, direction TEXT, sender TEXT,
    content TEXT, timestamp TIMESTAMP, message_type TEXT DEFAULT 'text', session_id TEXT);
CREATE TABLE agent_sessions (
    session_id TEXT, project_key TEXT, status TEXT, chat_id TEXT, sender TEXT, started_at REAL,
    last_activity REAL, tool_call_count INTEGER, branch_name TEXT, message_text TEXT);
CREATE TABLE dead_letters (
    letter_id TEXT PRIMARY KEY, chat_id TEXT, reply_to INTEGER, text TEXT, created_at REAL,
    attempts INTEGER DEFAULT 0);
CREATE TABLE bridge_events (
    event_id INTEGER PRIMARY KEY, event_type TEXT, chat_id TEXT, project_key TEXT,
    timestamp REAL, data TEXT);
CREATE TABLE links (
    id INTEGER PRIMARY KEY AUTOINCREMENT, url TEXT NOT NULL, title TEXT, sender TEXT,
    chat_id TEXT, message_id INTEGER, timestamp DATETIME, tags TEXT, status TEXT);
CREATE TABLE chats (
    chat_id TEXT PRIMARY KEY, chat_name TEXT NOT NULL, chat_type TEXT, updated_at DATETIME);
"""


def spoken() -> list[tuple[str, str]]:
    """Return who said what in the real logs, in order."""
    lines = [
        line for path in sorted(CHAT.glob("*.raw.txt")) for line in path.read_text().splitlines()
    ]
    return [(said[1], said[2].rstrip()) for line in lines if (said := _SPOKEN.match(line))]


def database(path: Path, *, wal: bool = False, schema: str = SCHEMA) -> Path:
    """Return the path of a fresh database with the tables, empty."""
    with closing(sqlite3.connect(path)) as connection:
        if wal:
            connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(schema)
    return path


def insert(path: Path, table: str, rows: Iterable[dict[str, Any]]) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for row in rows:
            marks = ", ".join("?" * len(row))
            columns = ", ".join(row)
            connection.execute(
                f"INSERT INTO {table} ({columns}) VALUES ({marks})", list(row.values())
            )
        connection.commit()


def change(path: Path, sql: str, values: Sequence[Any] = ()) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(sql, values)
        connection.commit()


def message(number: int, text: str | bytes | None = None, **columns: Any) -> dict[str, Any]:
    given = {
        "chat_id": str(100 + number % 7),
        "message_id": number,
        "direction": "in",
        "sender": "ann",
        "content": f"text {number}" if text is None else text,
        "timestamp": "2024-05-01 12:00:00",
    }
    return {**given, **columns}


def session(number: int, **columns: Any) -> dict[str, Any]:
    given = {
        "session_id": f"s{number}",
        "project_key": "valor",
        "status": "active",
        "chat_id": str(100 + number % 7),
        "sender": "ann",
        "started_at": START_S + number,
        "last_activity": START_S + number + 60,
        "tool_call_count": 3,
        "branch_name": None,
        "message_text": "fix it",
    }
    return {**given, **columns}


def filled(path: Path, message_count: int = 500, *, seed: int = 1, wal: bool = False) -> Path:
    """Return a database with some of everything, as a bridge of seven chats would have it."""
    database(path, wal=wal)
    rnd = random.Random(seed)
    talk = cycle(spoken())
    insert(path, "messages", (_said(n, *next(talk), rnd) for n in range(1, message_count + 1)))
    statuses = ("active", "dormant", "completed", "failed", "running", "done", "error", "pending")
    insert(path, "agent_sessions", (session(n, status=statuses[n % 8]) for n in range(40)))
    insert(
        path,
        "dead_letters",
        (
            {
                "letter_id": f"l{n}",
                "chat_id": str(100 + n % 3),
                "reply_to": n or None,
                "text": next(talk)[1],
                "created_at": START_S + n,
                "attempts": n % 4,
            }
            for n in range(9)
        ),
    )
    insert(
        path,
        "bridge_events",
        (
            {
                "event_type": "agent_request",
                "chat_id": str(100 + n % 7) if n % 5 else None,
                "project_key": "valor",
                "timestamp": START_S + n + 0.25,
                "data": f'{{"ms": {n}}}',
            }
            for n in range(30)
        ),
    )
    insert(path, "links", [{"url": "https://a.example", "chat_id": "100", "timestamp": START_S}])
    insert(path, "chats", [{"chat_id": "100", "chat_name": "Dev", "updated_at": START_S}])
    return path


def _said(number: int, sender: str, text: str, rnd: random.Random) -> dict[str, Any]:
    own = rnd.random() < 0.3
    at_s = START_S + number * 7
    return message(
        number,
        text,
        chat_id=str(rnd.randrange(100, 107)),
        direction="out" if own else "in",
        sender="valor" if own else sender,
        timestamp=rnd.choice([at_s, at_s * 1000, float(at_s), f"{at_s}"]),
        message_type="response" if own else "text",
        session_id=f"s{number % 40}" if number % 2 else None,
    )
