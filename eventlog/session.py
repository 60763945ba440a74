"""A session's life: `pending → active ⇄ dormant → completed | failed`. Pure.

What may be asked for is strict: `check_transition` raises. What is folded from the log is total:
`next_status` never raises, because an imported or late event must not stop a projection. Both say
that a terminal status is final.
"""

from __future__ import annotations

from typing import Literal

from eventlog.errors import IllegalTransition

SessionStatus = Literal["pending", "active", "dormant", "completed", "failed"]
SessionMode = Literal["chat", "job"]

TERMINAL: frozenset[SessionStatus] = frozenset({"completed", "failed"})

ALLOWED: dict[SessionStatus, frozenset[SessionStatus]] = {
    "pending": frozenset({"active", "completed", "failed"}),
    "active": frozenset({"dormant", "completed", "failed"}),
    "dormant": frozenset({"active", "completed", "failed"}),
    "completed": frozenset(),
    "failed": frozenset(),
}


def check_transition(session: str, current: SessionStatus, target: SessionStatus) -> None:
    """Return if the session may go from `current` to `target`; else raise IllegalTransition."""
    if target not in ALLOWED[current]:
        raise IllegalTransition(session, current, target)


def next_status(current: SessionStatus | None, target: SessionStatus) -> SessionStatus:
    """Return the status after the log says `target`: terminal stays, nothing returns to pending."""
    if current is None:
        return target
    if current in TERMINAL or target == "pending":
        return current
    return target
