"""Bridges for tests: the programs that share a log, and what its sessions look like."""

from __future__ import annotations

from collections.abc import Callable

from bridge import Bridge
from eventlog.event import Event
from eventlog.log import EventLog
from projections.reading.live import LiveDocuments
from projections.views.sessions import SESSIONS, Session


def another_program(log: EventLog, owner: str | None = None) -> Bridge:
    """Return a bridge of another program on the log, to be entered: it shares nothing but the server."""
    prefix = log.settings.key_prefix
    return Bridge.open(log.server_url, key_prefix=prefix, owner=owner, projections=None)


async def records_of(log: EventLog, session: str) -> list[Session]:
    """Return all records of a session that began, one per partition at most."""
    return [each for each in await LiveDocuments(log, SESSIONS).find(session) if each.status]


async def events_of(log: EventLog, conversation: str) -> list[Event]:
    return [entry.event for entry in await log.read(conversation=conversation, limit=1000)]


def elsewhere(
    log: EventLog, name: str, fits: Callable[[int, int], bool] = lambda a, b: a != b
) -> str:
    """Return a chat whose partition is not the one that a session's id falls into."""
    place = log.partition_of(name)
    chats = (f"telegram:{n}" for n in range(1000))
    return next(chat for chat in chats if fits(log.partition_of(chat), place))
