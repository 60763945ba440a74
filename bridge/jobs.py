"""Queueing work for an agent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eventlog.errors import InvalidEvent
from eventlog.ids import new_event_id
from eventlog.log import EventLog
from eventlog.session import SessionMode
from eventlog.vocabulary import JobQueued
from eventlog.writer import AppendResult
from projections.views.sessions import Session


async def queue_job(
    log: EventLog,
    agent: str,
    text: str,
    *,
    session: Session | str | None = None,
    conversation: str | None = None,
    mode: SessionMode = "job",
    metadata: Mapping[str, Any] | None = None,
    idempotency_key: str | None = None,
) -> AppendResult:
    """Queue a job for `agent` and return where it stands in the log.

    A worker that handles `job.queued` does it, after the earlier jobs of its conversation; after so
    many attempts as its Retry says it is parked as a dead letter, and the next job goes on. Without
    a `conversation` it is that of the `session`, which an id alone is by itself; a job without
    either waits for no other. With an `idempotency_key` of yours a repeated call queues nothing.
    Raises InvalidEvent and its kin.
    """
    if not agent:
        raise InvalidEvent("a job names no agent.", remedy='Say who is to do it: `"coder"`.')
    key = new_event_id() if idempotency_key is None else idempotency_key
    if isinstance(session, Session):
        conversation, session = conversation or session.conversation, session.id
    return await log.append(
        JobQueued(
            id=key,
            conversation=conversation or session or f"job:{key}",
            session=session,
            agent=agent,
            text=text,
            mode=mode,
            metadata=dict(metadata or {}),
            occurred_at=log.clock.now_us(),
        )
    )
