"""Where a session stands in its source and in the log, and what brings the one to the other. Pure.

What the new system did with an imported session since, stands: only what the log knows from imports,
or a later sign of life in the source, moves it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from bridge.importers.migration.records import SessionRecord
from eventlog.event import Event
from eventlog.session import TERMINAL, SessionStatus
from eventlog.vocabulary import (
    ConversationMapped,
    SessionPlaced,
    SessionTouched,
    SessionTransitioned,
    member_key,
)
from projections.views.conversations import Conversation
from projections.views.sessions import Session


class Standing(NamedTuple):
    """A session of the source, and the row that tells it."""

    record: SessionRecord
    origin: str
    number: int

    @property
    def rank(self) -> tuple[int, int]:
        """Of several rows of one session, or sessions of one conversation, the highest counts."""
        return self.record.last_us, self.number

    @property
    def as_started(self) -> Session:
        """What the log says of it right after its start was imported."""
        record = self.record
        status: SessionStatus = "pending" if record.status == "pending" else "active"
        return Session(
            record.session,
            conversation=record.conversation,
            status=status,
            started_at=record.started_us,
            last_activity_at=record.started_us,
            version=1,
        )


class Change(NamedTuple):
    """Events that hold as long as their entity has this version."""

    events: list[Event]
    expected_version: int


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
    # Of one that was only started, messages imported since say nothing: they are the source's own.
    seen_us = known.last_activity_at if known.version > 1 else known.started_at
    if record.last_us < seen_us:
        return None
    is_later = record.last_us > seen_us
    if known.status == record.status or record.status == "pending":
        events = [_touched(source)] if is_later and record.status == "active" else []
    else:
        events = [_moved(source, known)]
        if is_later and record.status == "dormant":
            events.insert(0, _touched(source))  # falling asleep is no sign of life
    return Change(events, known.version) if events else None


def _moved(source: Standing, known: Session) -> Event:
    record = source.record
    return SessionTransitioned(
        conversation=record.conversation,
        session=record.session,
        id=f"{source.origin}:{record.status}:{_moved_us(record)}",
        occurred_at=_moved_us(record),
        correlation_id=source.origin,
        from_status=known.status,
        to_status=record.status,
        reason=record.reason,
    )


def _touched(source: Standing) -> Event:
    record = source.record
    return SessionTouched(
        conversation=record.conversation,
        session=record.session,
        id=f"{source.origin}:touched:{record.last_us}",
        occurred_at=record.last_us,
        correlation_id=source.origin,
    )


def _moved_us(record: SessionRecord) -> int:
    return record.ended_us if record.status in TERMINAL else record.last_us


def placed(source: Standing) -> Change:
    """Return what makes a session found by its id, where that falls into another partition."""
    record = source.record
    event = SessionPlaced(
        conversation=record.session,
        session=record.session,
        home=record.conversation,
        id=f"{source.origin}:placed",
        occurred_at=record.started_us,
        correlation_id=source.origin,
    )
    return Change([event], 0)


class Current(NamedTuple):
    """The session that a conversation is in, or with `user` that user in it."""

    source: Standing
    user: str | None

    @property
    def key(self) -> str:
        """The document that says so."""
        return member_key(self.source.record.conversation, self.user)


def current_sessions(standings: Iterable[Standing]) -> dict[str, Current]:
    """Return by key the sessions that returning users find: those last active and not ended.

    Each user's own in a group, and the conversation's, which a private chat and a shared session have.
    """
    current: dict[str, Current] = {}
    for each in standings:
        record = each.record
        if not record.has_chat or record.status in TERMINAL:
            continue
        for user in dict.fromkeys((None, record.member)):
            found = Current(each, user)
            other = current.get(found.key)
            if other is None or each.rank > other.source.rank:
                current[found.key] = found
    return current


def map_current(current: Current, known: Conversation | None) -> Change | None:
    """Return what makes it the conversation's current session, unless a later one is."""
    source, record = current.source, current.source.record
    if known is not None and (
        known.session == record.session or known.updated_at >= record.last_us
    ):
        return None
    of_user = f":{current.user}" if current.user is not None else ""
    event = ConversationMapped(
        conversation=record.conversation,
        session=record.session,
        user=current.user,
        id=f"{source.origin}:mapped:{record.last_us}{of_user}",
        occurred_at=record.last_us,
        correlation_id=source.origin,
    )
    return Change([event], known.version if known is not None else 0)
