"""What is said of a session when it starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from eventlog.entry import Entry
from eventlog.event import Event
from eventlog.session import SessionMode, SessionStatus
from eventlog.vocabulary import SessionStarted
from eventlog.writer import AppendResult
from projections.views.sessions import SESSIONS, Session


class SessionStart(msgspec.Struct, frozen=True, kw_only=True):
    """The session's own fields, as a caller gives them."""

    status: SessionStatus = "active"
    mode: SessionMode = "chat"
    platform: str | None = None
    project: str | None = None
    user: str | None = None
    agent: str | None = None
    branch_name: str | None = None
    text: str | None = None
    owner: str | None = None
    metadata: Mapping[str, Any] = {}

    def event(self, conversation: str, session: str, at_us: int) -> SessionStarted:
        """Return the event that starts the session."""
        said = msgspec.structs.asdict(self) | {"metadata": dict(self.metadata)}
        return SessionStarted(conversation=conversation, session=session, occurred_at=at_us, **said)


def folded(session: Session, event: Event, result: AppendResult) -> Session:
    """Return the session after an event of its own that was appended; the given one is left alone."""
    after = SESSIONS.apply(
        msgspec.structs.replace(session), Entry(result.partition, result.id, event, b"")
    )
    if result.version is not None:  # others may have changed it before
        after.version = result.version
    return after
