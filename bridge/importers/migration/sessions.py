"""Where imported sessions stand now: statuses, last activity, and each conversation's current one.

A session's row changes while its bridge lives, so it is no event of a fixed place. What the row says
is compared with what the log says, and the difference is appended: at the first import, after one that
was killed, and again whenever the source has gone on. What the new system did since, stands.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from bridge.importers.migration.database import snapshot
from bridge.importers.migration.records import SessionRecord, session_record
from bridge.importers.migration.tables import Row, TablePlan, plan_tables
from bridge.importers.migration.values import status_of
from bridge.importers.records import BadRecord
from bridge.importers.report import ImportReport
from bridge.importers.source import Source
from eventlog.errors import VersionConflict
from eventlog.event import Event
from eventlog.log import EventLog
from eventlog.session import TERMINAL
from eventlog.vocabulary import ConversationMapped, SessionTouched, SessionTransitioned
from projections.reading.live import LiveDocuments
from projections.views.conversations import CONVERSATIONS, Conversation
from projections.views.sessions import SESSIONS, Session

APPENDED_AT_ONCE = 500


class Standing(NamedTuple):
    """A session of the source, and the row that tells it."""

    record: SessionRecord
    origin: str
    number: int

    @property
    def rank(self) -> tuple[int, int]:
        """Of several rows of one session, or sessions of one conversation, the highest counts."""
        return self.record.last_us, self.number


class Change(NamedTuple):
    """Events that hold as long as their entity has this version."""

    events: list[Event]
    expected_version: int


async def settle_sessions(log: EventLog, source: Source) -> ImportReport:
    """Return what was appended so that sessions stand in the log as in the source.

    Raises ImportFailed, LogUnavailable.
    """
    standings, label = await asyncio.to_thread(read_source, source)
    report = ImportReport()
    if not standings:
        return report
    file = report.file(f"{source.label}#{label}", source.format_name)
    for known in await known_sessions(log, standings.values()):
        for each, _ in known.pairs:
            file.count((f"session.{each.record.status}",))
        file.events_added += await _append(log, (settle(*pair) for pair in known.pairs))
        current = current_sessions(each for each, seen in known.pairs if seen is not None)
        file.events_added += await _append(
            log, (map_current(each, known.conversations.get(c)) for c, each in current.items())
        )
    return report


class Known(NamedTuple):
    """A partition's sessions of the source as the log has them."""

    pairs: list[tuple[Standing, Session | None]]
    conversations: dict[str, Conversation]


async def known_sessions(log: EventLog, standings: Iterable[Standing]) -> list[Known]:
    """Return, by partition, the sessions beside what the log has of them and their conversations.

    One live read a partition, whatever the number of sessions.
    """
    found = []
    for partition, mine in _by_partition(log, standings).items():
        ids = [each.record.session for each in mine]
        sessions = await LiveDocuments(log, SESSIONS).get_many(partition, ids)
        chats = sorted({each.record.conversation for each in mine if each.record.has_chat})
        mapped = await LiveDocuments(log, CONVERSATIONS).get_many(partition, chats)
        named = {each.conversation: each for each in mapped if each is not None}
        found.append(Known(list(zip(mine, sessions, strict=True)), named))
    return found


def read_sessions(rows: Iterable[Row], plan: TablePlan, source: Source) -> Iterator[Standing]:
    """Yield the sessions that rows tell; the import has reported those that tell none."""
    for row in rows:
        try:
            status = status_of(row.values.get("status"))
            record = session_record(row.values, source.mapping.reading, status)
        except BadRecord:
            continue
        yield Standing(record, f"{plan.name}:{row.number}", row.number)


def standing_of(found: Iterable[Standing]) -> dict[str, Standing]:
    """Return the sessions by id; of several records of one the last active counts."""
    standings: dict[str, Standing] = {}
    for each in found:
        other = standings.get(each.record.session)
        if other is None or each.rank > other.rank:
            standings[each.record.session] = each
    return standings


def settle(source: Standing, known: Session | None) -> Change | None:
    """Return what brings a session from where the log has it to where the source has it."""
    record = source.record
    if known is None or known.status is None or known.status in TERMINAL:
        return None  # refused, or ended for good
    is_untouched = known.version <= 1
    if not is_untouched and record.last_us < known.last_activity_at:
        return None
    at_us = record.ended_us if record.status in TERMINAL else record.last_us
    event_id = f"{source.origin}:{record.status}:{at_us}"
    moved = [
        SessionTransitioned(
            conversation=record.conversation,
            session=record.session,
            id=event_id,
            occurred_at=at_us,
            correlation_id=source.origin,
            from_status=known.status,
            to_status=record.status,
            reason=record.reason,
        )
    ]
    touched = [
        SessionTouched(
            conversation=record.conversation,
            session=record.session,
            id=f"{event_id}:touched",
            occurred_at=at_us,
            correlation_id=source.origin,
        )
    ]
    is_later = record.last_us > known.last_activity_at
    events: list[Event] = []
    if known.status != record.status and record.status != "pending":
        # Falling asleep is no sign of life, so the last one comes before it.
        events = [*touched, *moved] if record.status == "dormant" and is_later else [*moved]
    elif is_later and record.status == "active":
        events = [*touched]
    return Change(events, known.version) if events else None


def current_sessions(standings: Iterable[Standing]) -> dict[str, Standing]:
    """Return each conversation's current session: of those that have not ended the last active."""
    current: dict[str, Standing] = {}
    for each in standings:
        record = each.record
        if not record.has_chat or record.status in TERMINAL:
            continue
        other = current.get(record.conversation)
        if other is None or each.rank > other.rank:
            current[record.conversation] = each
    return current


def map_current(source: Standing, known: Conversation | None) -> Change | None:
    """Return what makes it the conversation's current session, unless a later one is."""
    record = source.record
    if known is not None and (
        known.session == record.session or known.updated_at >= record.last_us
    ):
        return None
    event = ConversationMapped(
        conversation=record.conversation,
        session=record.session,
        id=f"{source.origin}:mapped:{record.last_us}",
        occurred_at=record.last_us,
        correlation_id=source.origin,
    )
    return Change([event], known.version if known is not None else 0)


def read_source(source: Source) -> tuple[dict[str, Standing], str]:
    """Return the sessions of a database by id, and the table that they are in."""
    with snapshot(source.path) as connection:
        plan = plan_tables(connection, source.mapping)
        found: dict[str, Standing] = {}
        names = []
        for table in plan.tables:
            if table.kind == "session":
                names.append(table.table.name)
                found |= standing_of(read_sessions(table.rows(connection), table, source))
    return found, names[0] if names else ""


def _by_partition(log: EventLog, standings: Iterable[Standing]) -> dict[int, list[Standing]]:
    dealt: dict[int, list[Standing]] = {}
    for each in standings:
        dealt.setdefault(log.partition_of(each.record.conversation), []).append(each)
    return dealt


async def _append(log: EventLog, changes: Iterable[Change | None]) -> int:
    """Append the changes and return how many events were new."""
    wanted = [change for change in changes if change is not None]
    added = 0
    for start in range(0, len(wanted), APPENDED_AT_ONCE):
        some = wanted[start : start + APPENDED_AT_ONCE]
        added += sum(await asyncio.gather(*(_append_one(log, change) for change in some)))
    return added


async def _append_one(log: EventLog, change: Change) -> int:
    events: Sequence[Event] = change.events
    try:
        results = await log.append(events, expected_version=change.expected_version)
    except VersionConflict:
        return 0  # somebody is using it already: that is newer than the source
    return sum(not result.duplicate for result in results)
