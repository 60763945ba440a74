"""Bringing imported sessions to where they stand in their source.

A session's row changes while its bridge lives, so it is no event of a fixed place. What the row says
is compared with what the log says, and the difference is appended: at the first import, after one
that was killed, and again whenever the source has gone on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from bridge.importers.migration.database import snapshot
from bridge.importers.migration.records import session_record
from bridge.importers.migration.standing import (
    Change,
    Current,
    Standing,
    current_sessions,
    map_current,
    placed,
    settle,
    standing_of,
)
from bridge.importers.migration.tables import TablePlan, plan_tables
from bridge.importers.migration.values import status_of
from bridge.importers.records import BadRecord
from bridge.importers.report import FileReport, ImportReport
from bridge.importers.source import Source
from eventlog.errors import VersionConflict
from eventlog.log import EventLog
from projections.reading.live import LiveDocuments
from projections.views.conversations import CONVERSATIONS, Conversation
from projections.views.sessions import SESSIONS, Session

APPENDED_AT_ONCE = 500


class Known(NamedTuple):
    """Sessions of the source beside what the log has of them."""

    pairs: list[tuple[Standing, Session | None]]
    unplaced: list[Standing]
    """Those that are not found by their id alone."""
    mapped: list[tuple[Current, Conversation | None]]
    """Current sessions beside what the log has of their conversations."""


class Appended(NamedTuple):
    """How many events were new, and how many changes came too late."""

    event_count: int
    conflict_count: int


async def settle_sessions(log: EventLog, source: Source, report: ImportReport) -> None:
    """Append what makes sessions stand in the log as in the source, and add to the report.

    Raises ImportFailed, LogUnavailable.
    """
    standings, table = await asyncio.to_thread(read_sessions, source)
    if not standings:
        return
    file = report.file(f"{source.label}#{table}", source.format_name)
    for each in standings.values():
        file.count((f"session.{each.record.status}",))
    if not file.duplicates_skipped:
        # All of them began just now: what the log has of them needs no reading.
        is_all = await _bring(log, _as_started(log, standings.values()), file)
        if is_all:
            return
    for known in await known_sessions(log, standings.values()):
        await _bring(log, known, file)


def read_sessions(source: Source) -> tuple[dict[str, Standing], str]:
    """Return the sessions of a database by id, and the table that they are in."""
    found: dict[str, Standing] = {}
    names = []
    with snapshot(source.path) as connection:
        for table in plan_tables(connection, source.mapping).tables:
            if table.kind == "session":
                names.append(table.table.name)
                rows = ((row.number, row.values) for row in table.rows(connection))
                found |= standing_of(_standings(rows, table, source))
    return found, names[0] if names else ""


def _standings(
    rows: Iterable[tuple[int, dict[str, object]]], table: TablePlan, source: Source
) -> Iterator[Standing]:
    for number, values in rows:
        try:
            status = status_of(values.get("status"))
            record = session_record(values, source.mapping.reading, status)
        except BadRecord:
            continue  # the import has reported it
        yield Standing(record, f"{table.name}:{number}", number)


async def known_sessions(log: EventLog, standings: Iterable[Standing]) -> list[Known]:
    """Return, by partition, the sessions beside what the log has of them and their conversations.

    Up to three live reads a partition, whatever the number of sessions.
    """
    found = []
    elsewhere: dict[int, list[Standing]] = {}
    for partition, mine in _by_partition(log, standings).items():
        ids = [each.record.session for each in mine]
        sessions = await LiveDocuments(log, SESSIONS).get_many(partition, ids)
        pairs = list(zip(mine, sessions, strict=True))
        begun = [each for each, seen in pairs if seen is not None and seen.status is not None]
        current = current_sessions(begun)
        mapped = await LiveDocuments(log, CONVERSATIONS).get_many(partition, list(current))
        found.append(Known(pairs, [], list(zip(current.values(), mapped, strict=True))))
        for each in begun:
            if _is_elsewhere(log, each):
                elsewhere.setdefault(log.partition_of(each.record.session), []).append(each)
    for partition, mine in elsewhere.items():
        ids = [each.record.session for each in mine]
        records = await LiveDocuments(log, SESSIONS).get_many(partition, ids)
        # A record without a version is of messages that name the session: it tells no home.
        both = zip(mine, records, strict=True)
        lost = [each for each, record in both if record is None or not record.version]
        found.append(Known([], lost, []))
    return found


def _as_started(log: EventLog, standings: Iterable[Standing]) -> Known:
    pairs: list[tuple[Standing, Session | None]] = [(each, each.as_started) for each in standings]
    unplaced = [each for each, _ in pairs if _is_elsewhere(log, each)]
    current = current_sessions(each for each, _ in pairs)
    return Known(pairs, unplaced, [(each, None) for each in current.values()])


def _is_elsewhere(log: EventLog, each: Standing) -> bool:
    record = each.record
    return log.partition_of(record.session) != log.partition_of(record.conversation)


def _by_partition(log: EventLog, standings: Iterable[Standing]) -> dict[int, list[Standing]]:
    dealt: dict[int, list[Standing]] = {}
    for each in standings:
        dealt.setdefault(log.partition_of(each.record.conversation), []).append(each)
    return dealt


async def _bring(log: EventLog, known: Known, file: FileReport) -> bool:
    """Append what is missing; return whether nobody else was first anywhere."""
    is_all = True
    for changes in (
        (placed(each) for each in known.unplaced),
        (settle(*pair) for pair in known.pairs),
        (map_current(*pair) for pair in known.mapped),
    ):
        appended = await _append(log, changes)
        file.events_added += appended.event_count
        is_all = is_all and not appended.conflict_count
    return is_all


async def _append(log: EventLog, changes: Iterable[Change | None]) -> Appended:
    wanted = [change for change in changes if change is not None]
    added = conflicts = 0
    for start in range(0, len(wanted), APPENDED_AT_ONCE):
        some = wanted[start : start + APPENDED_AT_ONCE]
        for count in await asyncio.gather(*(_append_one(log, change) for change in some)):
            added += count or 0
            conflicts += count is None
    return Appended(added, conflicts)


async def _append_one(log: EventLog, change: Change) -> int | None:
    """Return how many events were new, None where the entity has moved on."""
    try:
        results = await log.append(change.events, expected_version=change.expected_version)
    except VersionConflict:
        return None  # somebody is using it already: that is newer than the source
    return sum(not result.duplicate for result in results)
