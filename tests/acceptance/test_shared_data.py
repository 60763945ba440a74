"""The whole shared data set: every count of COUNTS.json, in the report and in the log.

`EVENTLOG_SHARED_DATA=<folder> uv run pytest -m acceptance tests/acceptance/test_shared_data.py`
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bridge.importers.importing import import_paths
from eventlog.event import Event
from eventlog.log import EventLog
from tests.acceptance.shared_counts import by_label, count_events, in_log, load

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
