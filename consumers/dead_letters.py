"""Dead letters: asking for a replay, discarding, persisting, exporting.

Each is an event that carries the version at which the letter was seen, so of two who change one
letter at once the later is told so. Where letters are found is the caller's matter.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

from consumers.origin import Origin, read_origin
from eventlog.errors import InvalidEvent, LogUnavailable, VersionConflict
from eventlog.event import MAX_NAME_CHARACTERS, Event
from eventlog.ids import new_event_id
from eventlog.log import EventLog
from eventlog.past import Past
from eventlog.vocabulary import (
    DeadLetterDiscarded,
    DeadLetterParked,
    DeadLetterReplayRequested,
    FailedAttempt,
)

CHANGED_AT_ONCE = 100
"""Letters whose events are on their way together."""


class Letter(Protocol):
    """A dead letter as its read model tells it. Times are µs UTC."""

    letter: str
    conversation: str
    group: str
    status: Literal["parked", "replaying", "resolved", "discarded"]
    version: int
    """How many dead_letter.* events it had when it was seen."""
    reason: str
    error: str | None
    traceback: str | None
    attempts: int
    failures: list[FailedAttempt]
    text: str | None
    recipient: str | None
    reply_to: str | None
    session: str | None
    origin: str | None
    """Where the entry stands that was given up on, `partition/ms-n`."""
    runner: str | None
    """Who is replaying it, None for its group."""
    replay_count: int
    parked_at: int
    requested_at: int | None
    settled_at: int | None
    discard_reason: str | None
    parked_entry: str | None
    """Where its latest parking stands, `partition/ms-n`."""
    parked_sequence: int
    """Where it was first parked in its partition."""
    last_sequence: int
    """Where its latest event stands."""


class Outcome(NamedTuple):
    """What became of a letter: `changed` where it was settled or somebody else was first."""

    letter: str
    status: Literal["requested", "discarded", "changed"]


async def request_replay(log: EventLog, letters: Sequence[Letter]) -> list[Outcome]:
    """Ask that parked letters be tried again by their groups; return what became of each, in order.

    They are asked for in the order in which they were parked. A letter that is being replayed counts
    as changed. Asking twice about the same version is asking once. May raise LogUnavailable, after
    which it may be called again.
    """

    async def request(letter: Letter) -> Outcome:
        event = DeadLetterReplayRequested(
            conversation=letter.conversation,
            id=letter_event_id("replay", letter.letter, letter.version),
            occurred_at=log.clock.now_us(),
            session=letter.session,
            letter=letter.letter,
            group=letter.group,
            version=letter.version + 1,
            attempts=letter.attempts,
            origin=letter.origin or letter.parked_entry,
        )
        is_ours = letter.status == "parked" and await advance(log, event, letter.version)
        return Outcome(letter.letter, "requested" if is_ours else "changed")

    return await _for_each(letters, request)


async def discard(log: EventLog, letters: Sequence[Letter], reason: str) -> list[Outcome]:
    """Give letters up for good; return what became of each, in order.

    Those that are parked, and those that wait for their group to replay them.

    Raises InvalidEvent for a blank reason. May raise LogUnavailable, after which it may be called
    again.
    """
    if not reason.strip():
        raise InvalidEvent("a letter is discarded without a reason.", remedy="Say why, for later.")

    async def give_up(letter: Letter) -> Outcome:
        event = DeadLetterDiscarded(
            conversation=letter.conversation,
            id=letter_event_id("discard", letter.letter, letter.version),
            occurred_at=log.clock.now_us(),
            session=letter.session,
            letter=letter.letter,
            group=letter.group,
            reason=reason.strip(),
        )
        is_waiting = letter.status == "replaying" and letter.runner is None
        is_open = letter.status == "parked" or is_waiting
        is_ours = is_open and await advance(log, event, letter.version)
        return Outcome(letter.letter, "discarded" if is_ours else "changed")

    return await _for_each(letters, give_up)


async def persist_failed_delivery(
    log: EventLog,
    *,
    conversation: str,
    text: str,
    reply_to: str | int | None = None,
    recipient: str | None = None,
    session: str | None = None,
    letter: str | None = None,
    attempts: int = 0,
    reason: str = "failed",
    error: str | None = None,
    group: str = "delivery",
) -> str:
    """Record a message that could not be delivered as a dead letter; return the letter's name.

    The letter holds all that is needed to send it again. With a name of yours, a repeated call
    records nothing. Raises InvalidEvent and its kin, LogUnavailable.

    >>> await persist_failed_delivery(log, conversation="telegram:42", text="hello", reply_to=991)
    """
    name = new_event_id() if letter is None else letter
    event = DeadLetterParked(
        conversation=conversation,
        id=letter_event_id("parked", name, 0),
        occurred_at=log.clock.now_us(),
        session=session,
        letter=name,
        group=group,
        reason=reason,
        attempts=attempts,
        error=error,
        recipient=recipient,
        text=text,
        reply_to=None if reply_to is None else str(reply_to),
    )
    try:
        await advance(log, event, 0)
    except LogUnavailable:
        if log.settings.spool_dir is None:
            raise
        # A spool takes nothing that depends on a version; the event's id makes it once as well.
        await log.append(event)
    return name


async def payload_of(log: EventLog, letter: Letter, past: Past | None = None) -> Any:
    """Return the entry that was given up on, as in the log; None where there is none any more.

    Decoded from JSON and not brought to the current schema; text where it is no JSON. `past` is
    asked where the entry has left the log. May raise HistoryGap, LogUnavailable.
    """
    try:
        origin = Origin.parse(letter.origin or "")
    except ValueError:  # it has none, or one that only its producer understands
        return None
    entry = await read_origin(log, origin, past)
    if entry is None:
        return None
    try:
        return msgspec.json.decode(entry.raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return entry.raw.decode(errors="replace")


def export(letter: Letter, payload: Any = None) -> dict[str, Any]:
    """Return everything about a letter as a dict that JSON can hold. Times are µs UTC.

    `payload` is the entry it came from, as `payload_of` gives it.
    """
    names = (name for name in Letter.__annotations__ if name not in _INTERNAL)
    exported: dict[str, Any] = {name: getattr(letter, name) for name in names}
    exported["failures"] = [
        {name: getattr(failure, name) for name in failure.__struct_fields__}
        for failure in letter.failures
    ]
    return {**exported, "payload": payload}


_INTERNAL = frozenset({"parked_entry", "parked_sequence", "last_sequence"})


def letter_event_id(verb: str, letter: str, version: int, by: str | None = None) -> str:
    """Return the id of an event that changes a letter seen at `version`: the same for each repetition.

    `by` tells apart those of whom one alone may succeed.
    """
    if len(letter) > MAX_NAME_CHARACTERS // 2:
        letter = hashlib.sha256(letter.encode()).hexdigest()
    return ":".join([verb, letter, str(version), *([] if by is None else [by])])


async def advance(log: EventLog, event: Event, version: int) -> bool:
    """Append an event that changes a letter seen at `version`; return whether it changed it.

    True also for an event that stands there already, unless the letter has changed since.
    """
    try:
        result = await log.append(event, expected_version=version)
    except VersionConflict:
        return False
    return result.version == version + 1


async def _for_each(
    letters: Sequence[Letter], change: Callable[[Letter], Awaitable[Outcome]]
) -> list[Outcome]:
    """Return the outcomes in the order given; the changes are begun in the order of parking."""
    ranked = sorted(enumerate(letters), key=lambda item: item[1].parked_sequence)
    found: dict[int, Outcome] = {}
    for start in range(0, len(ranked), CHANGED_AT_ONCE):
        some = ranked[start : start + CHANGED_AT_ONCE]
        outcomes = await asyncio.gather(
            *(change(letter) for _, letter in some), return_exceptions=True
        )
        for (index, _), outcome in zip(some, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                raise outcome
            found[index] = outcome
    return [found[index] for index in range(len(letters))]
