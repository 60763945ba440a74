"""Streams of server-sent events: of a session, of a conversation, of the log."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from eventlog.event import Event, Name
from eventlog.session import TERMINAL
from eventlog.vocabulary import SessionTransitioned
from projections.views.conversations import Conversation, Conversations
from projections.views.history import History
from service.http.endpoint import Shared
from service.http.entries import EntryDocument, entry_json
from service.http.hub import Wants
from service.http.listing import Asked
from service.http.operation import STREAM, Routes
from service.http.place import Place
from service.http.refusal import Refusal
from service.http.session_state import state_of_session
from service.http.sessions import existing
from service.http.stream import EventStream, Stream, Subject, place_of_request
from service.wiring import Service

routes = Routes("streams")

STATE_MESSAGES = 50

LastEventId = Annotated[str, Meta(max_length=40_000)]
"""Where to go on; the header `Last-Event-ID` says the same and wins."""


class SessionStream(Asked, frozen=True):
    """A session to follow."""

    session: Name
    last_event_id: LastEventId | None = None


class ConversationStream(Asked, frozen=True):
    """A conversation to follow."""

    conversation: Name
    last_event_id: LastEventId | None = None


class LogStream(Asked, frozen=True, kw_only=True):
    """What of the log to follow."""

    type: list[str] = []
    """Only these event types; may be repeated."""
    partition: list[Annotated[int, Meta(ge=0, le=1023)]] = []
    """Only these partitions; may be repeated."""
    last_event_id: LastEventId | None = None


class ConversationState(msgspec.Struct, frozen=True):
    """What a conversation is at."""

    conversation: Conversation | None
    """Which session it is in; None where it never was in any."""
    messages: list[EntryDocument]
    """The last ones, oldest first."""
    older: str | None
    """The cursor of those before."""


class LogState(msgspec.Struct, frozen=True):
    """How far the log is."""

    heads: dict[int, str]
    """Partition → its last entry."""


@routes.get("/v1/sessions/{session}/stream", media=(STREAM,), statuses=(200, 204))
async def stream_session(service: Service, asked: SessionStream, request: Request) -> Response:
    """Follow a session: `state` at once, then each `entry`, and `end` when it has ended.

    An event's `id`, given back as `Last-Event-ID`, goes on right after it: each entry comes once, in
    order. The state is at least as new as its id; what it shows already may follow as an entry too.
    Entries that were trimmed meanwhile, or another log, give `resync` with fresh state. A reader that
    does not keep up gets `slow` and may come back. 204 says that nothing follows the id.
    """
    session = await existing(service, asked.session)

    async def state(_: Place) -> Any:
        return await state_of_session(service, session.id)

    async def is_over() -> bool:
        found = await service.bridge.sessions.get(session.id)
        return found is None or found.status in TERMINAL

    def ends_with(event: Event) -> bool:
        return (
            isinstance(event, SessionTransitioned)
            and event.session == session.id
            and event.to_status in TERMINAL
        )

    partition = service.log.partition_of(session.conversation)
    subject = Subject(Wants("session", session.id), (partition,), state, is_over, ends_with)
    return await _streamed(request, subject, asked.last_event_id)


@routes.get("/v1/conversations/{conversation}/stream", media=(STREAM,), statuses=(200, 204))
async def stream_conversation(
    service: Service, asked: ConversationStream, request: Request
) -> Response:
    """Follow a conversation, whatever session it is in: `state` at once, then each `entry`.

    It resumes as a session's stream does, and has no end.
    """
    name = asked.conversation

    async def state(_: Place) -> Any:
        page = await History(service.log, past=service.past).last(name, STATE_MESSAGES)
        return {
            "conversation": await Conversations(service.log).get(name),
            "messages": [entry_json(service.log, entry) for entry in page.entries],
            "older": page.older,
        }

    partition = service.log.partition_of(name)
    subject = Subject(Wants("conversation", name), (partition,), state, _never, _no_end)
    return await _streamed(request, subject, asked.last_event_id)


@routes.get("/v1/events/stream", media=(STREAM,), statuses=(200, 204))
async def stream_events(service: Service, asked: LogStream, request: Request) -> Response:
    """Follow the log: `state` at once, then each `entry`.

    Order holds within a partition. What a reader missed comes partition by partition.
    """
    count = service.log.partition_count
    partitions = tuple(sorted(set(asked.partition))) or tuple(range(count))
    if partitions[-1] >= count:
        raise Refusal("bad_request", f"there is no partition {partitions[-1]}.")

    async def state(place: Place) -> LogState:
        return LogState({each: str(place.positions[each]) for each in partitions})

    wants = Wants("all", types=frozenset(asked.type))
    subject = Subject(wants, partitions, state, _never, _no_end)
    return await _streamed(request, subject, asked.last_event_id)


async def _streamed(request: Request, subject: Subject, last_event_id: str | None) -> Response:
    shared: Shared = request.app.state.shared
    header = request.headers.get("last-event-id")
    place = place_of_request(header, last_event_id, subject.partitions)
    mark = await shared.hub.log_mark()
    if place is not None and place.has_ended and place.log_mark == mark:
        return Response(status_code=204)
    given = place and Place(place.log_mark, place.positions)
    return EventStream(shared, Stream(shared, subject, mark, given))


async def _never() -> bool:
    return False


def _no_end(event: Event) -> bool:  # noqa: ARG001 - no event ends it
    return False
