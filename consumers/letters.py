"""The events of a worker's dead letters. Their ids derive from the letter and its version. Pure."""

from __future__ import annotations

from consumers.dead_letters import letter_event_id
from consumers.record import Record
from consumers.telling import told, told_traceback
from eventlog.event import Event
from eventlog.vocabulary import (
    DeadLetterParked,
    DeadLetterReplayed,
    DeadLetterReplayRequested,
    DeadLetterResolved,
)

LONGEST_TEXT = 100_000
"""Characters of a message that a letter repeats; a longer one is found at its origin."""

BRIEF_ERROR = 100
"""Characters of the error in a letter that has no room for more."""


def parked(
    event: Event,
    record: Record,
    error: Exception,
    *,
    group: str,
    origin: str,
    replay: DeadLetterReplayRequested | None,
) -> DeadLetterParked:
    """Return the letter of an event given up; one that was replayed keeps its name and its place."""
    failure = record.failures[-1]
    home = replay or event
    name = replay.letter if replay else f"{group}:{origin}"
    text = _text_in(event, "text")
    return DeadLetterParked(
        id=letter_event_id("parked", name, replay.version if replay else 0),
        letter=name,
        conversation=home.conversation,
        session=home.session,
        occurred_at=failure.failed_at,
        group=group,
        reason=failure.code or "failed",
        attempts=failure.attempt,
        error=failure.error,
        traceback=told_traceback(error),
        origin=replay.origin if replay else origin,
        recipient=_text_in(event, "recipient"),
        text=text if text is None or len(text) <= LONGEST_TEXT else None,
        reply_to=_text_in(event, "reply_to"),
        failures=list(record.failures),
    )


def resolved(replay: DeadLetterReplayRequested, now_us: int) -> DeadLetterResolved:
    """Return what records that a replay succeeded."""
    return DeadLetterResolved(
        id=letter_event_id("resolved", replay.letter, replay.version),
        letter=replay.letter,
        conversation=replay.conversation,
        session=replay.session,
        occurred_at=now_us,
        group=replay.group,
    )


def not_replayed(
    replay: DeadLetterReplayRequested, error: Exception, now_us: int
) -> DeadLetterReplayed:
    """Return what records that a replay could not be tried: the letter is parked as before."""
    return DeadLetterReplayed(
        id=letter_event_id("replayed", replay.letter, replay.version),
        letter=replay.letter,
        conversation=replay.conversation,
        session=replay.session,
        occurred_at=now_us,
        group=replay.group,
        attempt=replay.attempts,
        error=told(error),
    )


def _text_in(event: Event, name: str) -> str | None:
    """Return a field that types of one's own may have as something else, or not at all."""
    value = getattr(event, name, None)
    return value if isinstance(value, str) else None
