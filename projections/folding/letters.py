"""Poison entries as dead letters: recorded in the log itself, so that nothing is skipped unseen."""

from __future__ import annotations

from eventlog.clock import Clock
from eventlog.event import Event
from eventlog.vocabulary import DeadLetterParked
from projections.folding.fold import Poison

GROUP = "projector"
"""The consumer group of the projector; letters of one projection name it after a colon."""
POISON_CONVERSATION = "eventlog:poison"
"""Where letters go whose entry could not be decoded, so that its conversation is not known."""


def is_own_letter(event: Event | None) -> bool:
    """Return whether the event is itself a letter from here: failing on it writes no further one."""
    return isinstance(event, DeadLetterParked) and event.group.partition(":")[0] == GROUP


def letter_of(poison: Poison, partition: int, clock: Clock) -> DeadLetterParked:
    """Return the letter of a poison entry. Its id derives from model and place: parked once.

    An entry that cannot be decoded concerns no projection more than another: it is one letter of
    the group as a whole.
    """
    origin = f"{partition}/{poison.raw.id}"
    projection, event = poison.projection, poison.event
    letter = f"poison:{projection.model if projection else GROUP}:{origin}"
    return DeadLetterParked(
        id=letter,
        letter=letter,
        conversation=event.conversation if event else POISON_CONVERSATION,
        session=event.session if event else None,
        causation_id=event.id if event else None,
        correlation_id=event.correlation_id if event else None,
        occurred_at=clock.now_us(),
        group=f"{GROUP}:{projection.name}" if projection else GROUP,
        reason="poison",
        attempts=1,
        error=poison.error,
        traceback=poison.traceback,
        origin=origin,
    )
