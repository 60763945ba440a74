"""The whole shared data set: every count of COUNTS.json, in report, log, SQL and read models.

`EVENTLOG_SHARED_DATA=<folder> uv run pytest -m acceptance tests/acceptance/test_shared_data.py`
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from analytics.archiver import Archiver
from analytics.storage import DirectoryStorage
from analytics.warehouse import Warehouse
from bridge.importers.importing import import_paths
from eventlog.event import Event
from eventlog.log import EventLog
from eventlog.vocabulary import DeadLetterParked, Message
from projections.projecting.projector import Projector
from tests.acceptance.shared_counts import by_label, count_events, in_log, in_read_models, load
from tests.acceptance.shared_models import read_out

COUNTS_SQL = (Path(__file__).parent / "counts.sql").read_text(encoding="utf-8")
INTEGRITY_SQL = """
SELECT partition, min(sequence) AS first, max(sequence) AS last, count(*) AS n,
    count(DISTINCT sequence) AS places, count(DISTINCT id) AS ids
FROM events GROUP BY partition ORDER BY partition
"""
SESSIONS_SQL = """
SELECT session, status, message_count, tool_call_count, tool_error_count FROM sessions
"""

# Read when the file is imported: the suite clears EVENTLOG_* before the first test.
DATA = os.environ.get("EVENTLOG_SHARED_DATA")

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.skipif(DATA is None, reason="EVENTLOG_SHARED_DATA names no folder"),
]


@pytest.fixture
def data() -> Path:
    assert DATA is not None
    return Path(DATA)


async def events_of(log: EventLog) -> list[Event]:
    events: list[Event] = []
    for partition in range(log.partition_count):
        entries = await log.read(partition=partition, limit=1_000_000)
        assert [entry.sequence for entry in entries] == list(range(1, len(entries) + 1))
        events += [entry.event for entry in entries]
    return events


async def test_the_counts_are_those_of_an_independent_parser(log: EventLog, data: Path) -> None:
    expected = load(data)
    report = await import_paths(log, [data])
    assert report.rejected_count == 0
    assert [label for label, reason in report.skipped if reason == "no known format"] == []
    for label, kinds in by_label(expected).items():
        assert dict(report.counts(label)) == kinds, label
    for folder in ("irc-ubuntu", "irc-new-domains"):
        total = report.counts(f"{folder}/")
        del total["senders"]
        assert dict(total) == expected[folder]["total"]
    events = await events_of(log)
    assert len(events) == report.events_added
    assert count_events(events) == in_log(expected)
    again = await import_paths(log, [data])
    assert (again.events_added, again.duplicates_skipped) == (0, report.events_added)
    assert len(await events_of(log)) == len(events)


async def test_sql_over_archive_and_live_log_counts_the_same(
    log: EventLog, data: Path, tmp_path: Path
) -> None:
    first = await import_paths(log, [data / "irc-ubuntu"])
    archiver = Archiver(log, DirectoryStorage(tmp_path))
    await archiver.archive_until(await log.heads())
    await archiver.close()
    rest = await import_paths(log, [data])
    assert rest.duplicates_skipped == first.events_added
    archived = {status.partition: status.position.n for status in await archiver.status()}
    assert sum(archived.values()) == first.events_added
    async with Warehouse.open(log, tmp_path) as warehouse:
        counted = (await warehouse.query(COUNTS_SQL)).to_pylist()
        partitions = (await warehouse.query(INTEGRITY_SQL)).to_pylist()
        sessions = (await warehouse.query(SESSIONS_SQL)).to_pylist()
    assert {row["name"]: row["n"] for row in counted} == in_log(load(data))
    heads = await log.heads()
    for row in partitions:
        head = heads[row["partition"]].n
        assert row == {"partition": row["partition"], "first": 1, "last": head, "n": head} | {
            "places": head,
            "ids": head,
        }
    assert [row["partition"] for row in partitions] == [p for p, h in enumerate(heads) if h.n]
    assert sum(row["n"] for row in partitions) == first.events_added + rest.events_added
    models = await read_out(log, set(), "live")
    assert {row.pop("session"): row for row in sessions} == {
        s.id: {
            "status": s.status,
            "message_count": s.message_count,
            "tool_call_count": s.tool_call_count,
            "tool_error_count": s.tool_error_count,
        }
        for s in models.sessions.values()
    }


async def test_the_read_models_hold_the_counts_before_and_after_a_projector_ran(
    log: EventLog, data: Path
) -> None:
    report = await import_paths(log, [data])
    events = await events_of(log)
    conversations = {event.conversation for event in events}
    # A live read without a projector folds the whole log, hence not of every conversation.
    some = {c for c in conversations if c.startswith("irc:")} | set(sorted(conversations)[::60])
    live = await read_out(log, some, "live")
    assert (await read_out(log, some, "stored")).labels == {}
    await Projector(log).run_until_caught_up()
    assert await read_out(log, some, "stored") == live
    stored = await read_out(log, conversations, "stored")
    assert stored.counts == in_read_models(load(data), data)
    said = Counter(event.conversation for event in events if is_said(event))
    assert stored.messages == dict.fromkeys(conversations, 0) | said
    assert stored.reasons == Counter(e.reason for e in events if isinstance(e, DeadLetterParked))
    for conversation in conversations:
        ids = [e.id for e in events if e.conversation == conversation and is_said(e)]
        assert stored.last[conversation] == ids[-20:]
    again = await import_paths(log, [data])
    assert (again.events_added, again.duplicates_skipped) == (0, report.events_added)
    assert await read_out(log, conversations, "live") == stored


def is_said(event: Event) -> bool:
    return isinstance(event, Message) and event.type != "message.queued"
