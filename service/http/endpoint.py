"""From a request to its handler and back: who asks, what, and the answer as JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from eventlog.tasks import end
from service.http.access import Access
from service.http.counting import Counting
from service.http.hub import Hub
from service.http.operation import STREAM, Operation
from service.http.reading import Limits, decode_body, decode_segment, read_body, read_parameters
from service.http.refusal import Refusal
from service.http.slots import Slots
from service.wiring import Service

_ENCODER = msgspec.json.Encoder(decimal_format="number", enc_hook=str)


class Shared:
    """What all endpoints of an application share."""

    def __init__(self, service: Service, access: Access, limits: Limits) -> None:
        self.service = service
        self.access = access
        self.limits = limits
        self.counting = Counting()
        self.slots = Slots(limits.running_count, limits.waiting_count, limits.wait_s)
        self.stream_slots = Slots(limits.stream_count)
        self.stream_turns = asyncio.Semaphore(limits.running_count)
        """Taken for each question to the log: a thousand readers may come back at once."""
        self.hub = Hub(service.log)

    def stop(self) -> None:
        """Let what lasts come to its end: no stream goes on, and the service is not ready any more."""
        self.service.is_stopping = True
        self.hub.stop()

    async def close(self) -> None:
        """Let go of everything."""
        self.stop()
        await self.hub.close()


class Endpoint:
    """Serves one operation, as an ASGI application."""

    def __init__(self, operation: Operation, shared: Shared) -> None:
        self.operation = operation
        self._shared = shared

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Raises EventLogError, which is told as a problem document."""
        request = Request(scope, receive)
        operation, shared = self.operation, self._shared
        if operation.scope != "open":
            shared.access.check(request, operation.scope)
        given: dict[str, Any] = {}
        if operation.asked is not None:
            given["asked"] = read_parameters(request, operation.asked)
        if operation.body is not None:
            # Before it takes a slot: whoever sends slowly holds up nobody.
            given["body"] = decode_body(await read_body(request, shared.limits), operation.body)
        if operation.takes_request:
            given["request"] = request
        if operation.is_stream and request.method == "HEAD":
            answer: Any = Response(media_type=STREAM)  # it would never end
        elif operation.is_stream:
            async with shared.stream_turns:
                answer = await operation.handler(shared.service, **given)
        elif operation.scope == "open":
            answer = await operation.handler(shared.service, **given)
        else:
            async with shared.slots:
                working = operation.handler(shared.service, **given)
                is_reading = operation.scope == "read"
                answer = await (_while_asked(working, request) if is_reading else working)
        await self._response(answer)(scope, receive, send)

    def _response(self, answer: Any) -> Response:
        if isinstance(answer, Response):
            return answer
        if answer is None:
            return Response(status_code=204)
        return json_response(answer, self.operation.statuses[0])


def json_response(answer: Any, status: int = 200) -> Response:
    """Return an answer as JSON."""
    return Response(_ENCODER.encode(answer), status, media_type="application/json")


async def _while_asked(working: Awaitable[Any], request: Request) -> Any:
    """Return what the work gives; it is cancelled when its client goes.

    Only for requests whose body, if any, was read.
    """
    task = asyncio.ensure_future(working)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Refusal("bad_request", "the client went before the answer was there.")
        return task.result()
    finally:
        await end(task, gone)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class SegmentRoute(Route):
    """A route whose path parameters are single segments, decoded only once they are told apart.

    So an id may hold a slash: `%2F` in a segment is no end of it.
    """

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Return whether the path is this route's, with its parameters as text."""
        raw_path: bytes = scope.get("raw_path") or scope["path"].encode()
        match, child = super().matches({**scope, "path": raw_path.decode("latin-1")})
        if match is not Match.NONE:
            parameters = child["path_params"]
            child["path_params"] = {n: decode_segment(v) for n, v in parameters.items()}
        return match, child
