"""Appending events: one, or many at once."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from bridge.given import EARLIEST_US
from eventlog.errors import UndecodablePayload
from eventlog.event import Event, UnknownEvent
from eventlog.settings import Durability
from eventlog.writer import AppendResult
from service.http.endpoint import json_response
from service.http.operation import Routes
from service.http.refusal import Refusal
from service.wiring import Service

routes = Routes("events")

MAX_EVENTS = 10_000
END_OF_TIME_US = 253_402_300_800_000_000
"""The year 10000, which SQL has no room for."""

EventDocument = dict[str, Any]
"""An event as one flat JSON object: `type` and `conversation`, then the type's own keys."""


class Append(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Events to append."""

    events: Annotated[list[EventDocument], Meta(min_length=1, max_length=MAX_EVENTS)]
    """Each with `type` and `conversation`, and an `id` of yours to be recorded once."""
    expected_version: Annotated[int, Meta(ge=0)] | None = None
    """Of the entity that all the events have: they are appended only at that version."""
    durability: Durability | None = None


class Appended(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where an event stands; for a duplicate, where the original does."""

    duplicate: bool
    id: str | None = None
    """The event's, where it was given: the idempotency key."""
    partition: int | None = None
    entry: str | None = None
    """The entry id, `ms-n`; None while it waits in the spool."""
    sequence: int | None = None
    version: int | None = None
    """Of the event's entity after it."""
    spooled: bool = False
    """Whether it waits on the service's disk for the log to come back."""


class AppendedAll(msgspec.Struct, frozen=True):
    """Where events stand, in the order given."""

    results: list[Appended]


@routes.post("/v1/events", answer=AppendedAll, statuses=(201, 200, 202))
async def append_events(service: Service, body: Append, request: Request) -> Response:
    """Append events, in order.

    An event whose `id` is in the log already is not recorded again: its result says `duplicate`, and
    where the original stands. Of a list, what falls into one partition is written whole or not at
    all (up to 500 events), and one bad event anywhere writes nothing. The status is 201 where
    anything was recorded, 200 where all were duplicates, 202 where the log is away and the events
    wait in the spool.
    """
    events = [_event(service, document, place) for place, document in enumerate(body.events)]
    results = await service.log.append(
        events, expected_version=body.expected_version, durability=body.durability
    )
    told = [appended(event.id, result) for event, result in zip(events, results, strict=True)]
    request.app.state.shared.counting.appended.update(map(_outcome, results))
    return json_response(AppendedAll(told), status_of(results))


def _event(service: Service, document: EventDocument, place: int) -> Event:
    """Return the event. Raises Refusal, which says which of the list it was."""
    pointer = f"$.events[{place}]"
    if not isinstance(document.get("type"), str):
        raise Refusal("invalid_body", f"an event has no `type` at {pointer}.", pointer=pointer)
    try:
        event = service.log.codec.decode(msgspec.json.encode(document))
    except UndecodablePayload as error:
        raise Refusal("invalid_body", f"{error.message} At {pointer}.", pointer=pointer) from None
    is_known = event.type in service.log.codec.types
    if is_known and isinstance(event, UnknownEvent):
        raise Refusal(
            "invalid_body",
            f"schema {event.schema} of {event.type} at {pointer} is not known here.",
            remedy="Leave `schema` out, or upgrade the service.",
            pointer=f"{pointer}.schema",
        )
    if is_known and event.extra:
        names = ", ".join(map(repr, sorted(event.extra)))
        raise Refusal(
            "invalid_body",
            f"{event.type} has no field {names} at {pointer}.",
            remedy="Leave it out, or give the event a type of its own.",
            pointer=f"{pointer}.{min(event.extra)}",
        )
    if not EARLIEST_US <= event.occurred_at < END_OF_TIME_US:
        raise Refusal(
            "invalid_body",
            f"occurred_at is {event.occurred_at} at {pointer}, no time in µs since 1970.",
            remedy="Leave it out for now.",
            pointer=f"{pointer}.occurred_at",
        )
    return event


def _outcome(result: AppendResult) -> str:
    return "spooled" if result.is_spooled else "duplicate" if result.duplicate else "recorded"


def appended(event_id: str | None, result: AppendResult) -> Appended:
    """Return what is told of an append."""
    if result.is_spooled:
        return Appended(duplicate=False, id=event_id, spooled=True)
    return Appended(
        result.duplicate,
        event_id,
        result.partition,
        str(result.id),
        result.sequence,
        result.version,
    )


def status_of(results: list[AppendResult]) -> HTTPStatus:
    """Return the status that says what became of appends."""
    if any(result.is_spooled for result in results):
        return HTTPStatus.ACCEPTED
    if all(result.duplicate for result in results):
        return HTTPStatus.OK
    return HTTPStatus.CREATED
