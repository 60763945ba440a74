"""What callers give, as the log has it: ids are text, numbers of a platform among them. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import get_args

from eventlog.errors import InvalidEvent
from eventlog.session import SessionStatus
from projections.views.sessions import Session

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EARLIEST_US = 10**14
"""In 1973: what is less was counted in seconds or milliseconds."""

Id = str | int
"""A platform's id; 7 and "7" are the same."""


def id_text(what: str, given: Id) -> str:
    """Return an id as text. Raises InvalidEvent for what is none, which no two places would spell alike."""
    if not isinstance(given, str | int) or isinstance(given, bool) or given == "":
        raise InvalidEvent(
            f"{given!r} is no id of a {what}.", remedy="Give the platform's, a number or a text."
        )
    return str(given)


def optional_id_text(what: str, given: Id | None) -> str | None:
    """Return an id as text, None for none. Raises InvalidEvent."""
    return None if given is None else id_text(what, given)


def time_us(given: int | datetime) -> int:
    """Return a time in µs UTC; a datetime without a zone is UTC.

    Raises InvalidEvent for a number that is seconds or milliseconds, or no time at all.
    """
    if isinstance(given, datetime):
        aware = given if given.tzinfo else given.replace(tzinfo=UTC)
        return (aware - EPOCH) // timedelta(microseconds=1)
    if not isinstance(given, int) or isinstance(given, bool) or given < EARLIEST_US:
        raise InvalidEvent(
            f"{given!r} is no time in µs since 1970.", remedy="Give a datetime, or microseconds."
        )
    return given


def session_id_of(session: str | Session) -> str:
    """Return the id of a session, which may be given itself."""
    return session.id if isinstance(session, Session) else session


def check_status(status: str) -> None:
    """Return if there is such a status. Raises InvalidEvent."""
    if status not in get_args(SessionStatus):
        raise InvalidEvent(
            f"{status!r} is no status of a session.",
            remedy=f"One of {', '.join(get_args(SessionStatus))}.",
        )
