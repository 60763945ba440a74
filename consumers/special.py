"""Entries that are not handled as they are: replays, and what holds no event."""

from __future__ import annotations

from typing import NoReturn

from consumers.attempt import Subject
from consumers.context import Context
from consumers.handler import Handler, Handlers
from consumers.origin import Origin, read_origin
from consumers.retry import Retry
from eventlog.connection import in_our_words
from eventlog.entity import EntityState
from eventlog.errors import AttemptFailed
from eventlog.event import Event, UnknownEvent
from eventlog.ids import EntryId
from eventlog.log import EventLog
from eventlog.past import Past
from eventlog.tail import decode_entry
from eventlog.vocabulary import DeadLetterParked, DeadLetterReplayRequested, MessageQueued


async def _not_called(event: Event, context: Context) -> NoReturn:
    raise AssertionError(f"{event.type} of {context.group} is not handled by calling")


REPLAY = Handler(_not_called, is_async=True, timeout_s=60, retry=Retry())
"""Marks a request to replay a letter; what is called is the handler of the letter's origin."""


async def _refuse(event: UnknownEvent, context: Context) -> NoReturn:  # noqa: ARG001 - a handler's shape
    raise Poison(str(event.extra.get("error", "the entry holds no event.")))


POISON = Handler(_refuse, is_async=True, timeout_s=60, retry=Retry(attempts=1))
"""Parks an entry that holds no event: nobody can tell whether it would have been handled."""


class Poison(AttemptFailed):
    """An entry holds no event."""

    code = "poison"

    def __init__(self, message: str) -> None:
        super().__init__(message, permanent=True)


class NothingToReplay(Exception):
    """A replay whose letter was settled meanwhile."""


class OriginGone(Exception):
    """A replay whose origin is nowhere, or is for nobody here; says why."""


def handler_of(event: Event, group: str, handlers: Handlers) -> Handler | None:
    """Return what handles an event, None where nobody does. Pure."""
    name = event.type
    if name == "undecodable":
        return POISON
    if isinstance(event, DeadLetterReplayRequested) and event.group == group:
        return REPLAY if event.runner is None else None
    return handlers.find(name)


class Origins:
    """Finds what a replay is about: in the log, or in the archive."""

    def __init__(self, log: EventLog, group: str, handlers: Handlers, past: Past | None) -> None:
        self._log = log
        self._group = group
        self._handlers = handlers
        self._past = past

    async def subject_of(self, request: DeadLetterReplayRequested, partition: int) -> Subject:
        """Return what the letter's handler is to be called with, upcast to the present.

        Raises NothingToReplay, OriginGone, LogUnavailable, and HistoryGap for a damaged archive.
        """
        if await self._version_of(request, partition) != request.version:
            raise NothingToReplay
        entry_id, event = await self._origin(request)
        handler = self._handlers.find(event.type)
        if handler is None:
            raise OriginGone(f"group {self._group!r} has no handler for {event.type} any more.")
        return Subject(event, entry_id, handler, request)

    async def _version_of(self, request: DeadLetterReplayRequested, partition: int) -> int:
        with in_our_words(self._log.settings):
            state: bytes | None = await self._log.client.execute_command(
                "HGET", self._log.keys.versions(partition), request.entity or ""
            )
        return EntityState.parse(state.decode()).version if state else 0

    async def _origin(self, request: DeadLetterReplayRequested) -> tuple[EntryId, Event]:
        try:
            origin = Origin.parse(request.origin or "")
        except ValueError:
            raise OriginGone(f"the letter names no origin: {request.origin!r}.") from None
        raw = await read_origin(self._log, origin, self._past)
        if raw is None:
            raise OriginGone(f"entry {origin} is neither in the log nor in the archive.")
        event = decode_entry(self._log.codec, origin.partition, raw).event
        if isinstance(event, DeadLetterParked):
            event = _queued(event)
        elif isinstance(event, UnknownEvent) and event.type == "undecodable":
            raise OriginGone(f"entry {origin} holds no event: {event.extra['error']}")
        return origin.id, event


def _queued(letter: DeadLetterParked) -> MessageQueued:
    """Return the message that a letter without an origin of its own asks to deliver."""
    return MessageQueued(
        id=letter.letter,
        conversation=letter.conversation,
        session=letter.session,
        correlation_id=letter.correlation_id,
        occurred_at=letter.occurred_at,
        text=letter.text or "",
        recipient=letter.recipient,
        reply_to=letter.reply_to,
    )
