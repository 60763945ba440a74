"""The reports that come with the product, asked of events whose answers are known."""

# ruff: noqa: DTZ001 - times of the views are naive UTC

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest

from analytics import Archiver, DirectoryStorage, Warehouse
from analytics.reports import Reports, question
from eventlog import (
    DeadLetterParked,
    DeadLetterResolved,
    DeliveryFailed,
    Event,
    EventLog,
    MessageQueued,
    MessageReceived,
    MessageSent,
    SessionStarted,
    SessionTransitioned,
    ToolCalled,
    ToolReturned,
)

NOON_US = 1_735_732_800_000_000  # 2025-01-01T12:00
DAY_S = 86_400


def at(seconds: float, chat: str = "irc:a", **fields: Any) -> dict[str, Any]:
    return {"conversation": chat, "occurred_at": NOON_US + int(seconds * 1e6), **fields}


async def answer(log: EventLog, archive: Path, name: str, **given: Any) -> list[dict[str, Any]]:
    """Return the report's rows, half of what it asks about being in the archive."""
    async with Warehouse.open(log, archive) as warehouse:
        report = Reports().get(name)
        table = await warehouse.query(*question(report, given, NOON_US))
        assert report.plot
        shown = {report.plot.x, *report.plot.y, *([report.plot.by] if report.plot.by else [])}
        assert shown <= set(table.column_names)
        rows: list[dict[str, Any]] = table.to_pylist()
        return rows


async def record(log: EventLog, archive: Path, events: list[Event]) -> None:
    await log.append(events[: len(events) // 2])
    async with Archiver(log, DirectoryStorage(archive)) as archiver:
        await archiver.run_once()
    await log.append(events[len(events) // 2 :])


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tmp_path / "archive"


async def test_each_gives_no_rows_for_an_empty_log(log: EventLog, archive: Path) -> None:
    for name in Reports().names():
        rows = await answer(log, archive, name)
        assert len(rows) == (24 if name == "busiest-hours" else 0), name


async def test_messages_per_day(log: EventLog, archive: Path) -> None:
    events: list[Event] = [
        MessageReceived(**at(0), text="a"),
        MessageSent(**at(1), text="b"),
        MessageReceived(**at(2, "irc:b"), text="c"),
        MessageQueued(**at(3), text="no message yet"),
        MessageReceived(**at(DAY_S), text="d"),
    ]
    await record(log, archive, events)
    rows = await answer(log, archive, "messages-per-day")
    assert [tuple(row.values()) for row in rows] == [
        (date(2025, 1, 1), "irc:a", 2, 1, 1),
        (date(2025, 1, 1), "irc:b", 1, 1, 0),
        (date(2025, 1, 2), "irc:a", 1, 1, 0),
    ]
    [row] = await answer(log, archive, "messages-per-day", since="2025-01-02", chat="irc:a")
    assert row["day"] == date(2025, 1, 2)
    assert await answer(log, archive, "messages-per-day", until="2025-01-01T12:00") == []


async def test_response_latency(log: EventLog, archive: Path) -> None:
    """From the first unanswered message to the answer, whatever is said more on either side."""

    def said(kind: type[Event], seconds: float, session: str | None = "s") -> Event:
        return kind(**at(seconds, session=session), text="x")  # type: ignore[call-arg]

    events = [
        said(MessageSent, 0),  # nobody asked
        said(MessageReceived, 10),
        said(MessageReceived, 13),
        said(MessageSent, 14),  # 4 s
        said(MessageSent, 20),
        said(MessageReceived, 5, session=None),
        said(MessageReceived, 30, session="other"),
        said(MessageReceived, 30),
        said(MessageSent, 31),  # 1 s
        said(MessageReceived, 40),
        said(MessageSent, 39),  # before its question
        said(MessageReceived, 50),  # never answered
    ]
    await record(log, archive, events)
    [row] = await answer(log, archive, "response-latency")
    assert row == {
        "session": "s",
        "conversation": "irc:a",
        "answers": 2,
        "p50_s": 2.5,
        "p95_s": 3.85,
        "longest_s": 4.0,
        "first_answer_at": datetime(2025, 1, 1, 12, 0, 14),
    }
    assert await answer(log, archive, "response-latency", since="2025-01-01T12:00:15") == []


async def test_sessions(log: EventLog, archive: Path) -> None:
    events: list[Event] = [
        *(SessionStarted(**at(0, session=f"s{n}"), project="web") for n in range(4)),
        SessionTransitioned(**at(5, session="s0"), to_status="completed"),
        SessionTransitioned(**at(7, session="s1"), to_status="completed"),
        SessionTransitioned(**at(90, session="s2"), to_status="failed"),
        MessageSent(**at(2 * DAY_S, session="s3"), text="still here"),
    ]
    await record(log, archive, events)
    rows = await answer(log, archive, "sessions", project="web")
    assert [tuple(row.values()) for row in rows] == [
        ("under 10 s", "completed", 2, 6.0, 0, 0),
        ("1 to 10 min", "failed", 1, 90.0, 0, 0),
        ("over a day", "active", 1, 172_800.0, 1, 0),
    ]
    assert await answer(log, archive, "sessions", project="other") == []


async def test_tools(log: EventLog, archive: Path) -> None:
    events: list[Event] = [
        *(ToolCalled(**at(0, session="s"), call=str(n), name="read") for n in range(3)),
        ToolReturned(**at(1, session="s"), call="0"),
        ToolReturned(**at(3, session="s"), call="1", is_error=True),
        ToolCalled(**at(0, session="t"), call="0", name="write"),
        ToolReturned(**at(0, session="t"), call="0", duration_ms=7),
    ]
    await record(log, archive, events)
    rows = await answer(log, archive, "tools")
    assert [tuple(row.values()) for row in rows] == [
        ("read", 3, 1, 1, 1, 33.3, 2000.0, 2900.0),
        ("write", 1, 1, 0, 0, 0.0, 7.0, 7.0),
    ]
    [row] = await answer(log, archive, "tools", session="t")
    assert row["tool"] == "write"


async def test_dead_letters(log: EventLog, archive: Path) -> None:
    events: list[Event] = [
        *(
            DeadLetterParked(**at(n), letter=f"l{n}", group="g", reason=reason, attempts=n)
            for n, reason in enumerate(["full", "full", "gone"])
        ),
        DeadLetterResolved(**at(9), letter="l0", group="g"),
    ]
    await record(log, archive, events)
    rows = await answer(log, archive, "dead-letters", group="g")
    assert [tuple(row.values())[:7] for row in rows] == [
        ("full", 2, 1, 0, 1, 0, 1),
        ("gone", 1, 1, 0, 0, 0, 2),
    ]


async def test_deliveries(log: EventLog, archive: Path) -> None:
    """By the platform that the events name, else by the conversation's first part."""
    events: list[Event] = [
        *(MessageQueued(**at(0, "telegram:1"), id=f"q{n}", text="x") for n in range(4)),
        MessageSent(**at(2, "telegram:1"), delivery="q0", text="x"),
        DeliveryFailed(**at(3, "telegram:1"), delivery="q1", reason="gone", permanent=True),
        DeliveryFailed(**at(3, "telegram:1"), delivery="q2", reason="busy"),
        MessageQueued(**at(0, "w:1"), id="own", text="x", platform="web"),
    ]
    await record(log, archive, events)
    rows = await answer(log, archive, "deliveries")
    assert [tuple(row.values()) for row in rows] == [
        ("telegram", 4, 1, 1, 1, 1, 50.0, 2, 2.0, 2.0),
        ("web", 1, 0, 0, 0, 1, None, 0, None, None),
    ]


async def test_busiest_hours(log: EventLog, archive: Path) -> None:
    events: list[Event] = [MessageReceived(**at(n * DAY_S), text="x") for n in range(3)]
    await record(log, archive, [*events, MessageReceived(**at(3600, "irc:b"), text="x")])
    rows = await answer(log, archive, "busiest-hours")
    assert [row["hour"] for row in rows] == [f"{hour:02}:00" for hour in range(24)]
    assert [tuple(row.values())[1:] for row in rows if row["messages"]] == [
        (3, 1, 75.0),
        (1, 1, 25.0),
    ]
