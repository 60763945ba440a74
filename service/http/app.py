"""The application: all routes, and what goes around them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from eventlog.correlation import current_correlation
from service.http import (
    appending,
    chatting,
    conversations,
    health,
    letters,
    models,
    operating,
    querying,
    sessions,
    streams,
    tickets,
)
from service.http.access import Access
from service.http.endpoint import Endpoint, SegmentRoute, Shared
from service.http.envelope import REQUEST_ID, Envelope
from service.http.openapi import document
from service.http.operation import Operation
from service.http.problem import problem_response
from service.http.reading import Limits
from service.http.refusal import Refusal
from service.http.tokens import Tokens
from service.wiring import Service

GROUPS = (
    health,
    appending,
    chatting,
    conversations,
    sessions,
    tickets,
    streams,
    letters,
    models,
    operating,
    querying,
)
"""Modules with `routes`, in the order of the document."""


Metrics = Callable[[Shared], Awaitable[str]]
"""Returns the metrics as Prometheus's text; `Shared` has the service and what was counted."""


def operations() -> list[Operation]:
    """Return every operation of the API."""
    return [operation for group in GROUPS for operation in group.routes]


def new_app(
    service: Service,
    *,
    tokens: Tokens | None = None,
    limits: Limits | None = None,
    pages: Sequence[BaseRoute] = (),
    metrics: Metrics | None = None,
) -> Starlette:
    """Return the application that serves `service`.

    Without tokens it takes every request that comes by a name of this machine. `pages` are routes
    beside the API's, tried after them: `app.state.shared.access` says who may see them.
    `metrics` gives what `/metrics` says; else it tells what this process counted.
    """
    limits = limits or Limits(body_bytes=service.settings.http_max_body_bytes)
    tokens = Tokens.of(service.settings) if tokens is None else tokens
    origins = _origins(service.settings.http_origins)
    access = Access(tokens, lambda: service.log.clock.now_us() // 1_000_000, origins)
    shared = Shared(service, access, limits)
    app = Starlette(
        routes=[*_routes(operations(), shared), *pages],
        middleware=[Middleware(Envelope, counting=shared.counting), *_cors(origins)],
        exception_handlers={HTTPException: _refused},
    )
    app.state.shared = shared
    app.state.metrics = metrics or _counts
    app.state.openapi = document(operations())
    return app


def _routes(wanted: Iterable[Operation], shared: Shared) -> list[BaseRoute]:
    return [
        SegmentRoute(
            each.path,
            Endpoint(each, shared),
            methods=[each.method],
            name=each.name,
        )
        for each in wanted
    ]


async def _counts(shared: Shared) -> str:
    return shared.counting.render()


async def _refused(request: Request, error: Exception) -> Response:  # noqa: ARG001 - as Starlette calls it
    """Return the problem document for what the router refuses."""
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        refusal = Refusal(
            "method_not_allowed",
            "this path does not take that method.",
            remedy="/openapi.json says what it takes.",
            headers=error.headers,
        )
    else:
        refusal = Refusal(
            "not_found", "there is no such path.", remedy="/openapi.json lists those there are."
        )
    return problem_response(refusal, current_correlation())


def _origins(text: str | None) -> frozenset[str]:
    return frozenset(origin.strip() for origin in (text or "").split(",") if origin.strip())


def _cors(origins: frozenset[str]) -> list[Middleware]:
    """Return what lets pages of other origins call; nothing where there are none."""
    if not origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=sorted(origins),
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Last-Event-ID", REQUEST_ID],
            expose_headers=[REQUEST_ID],
        )
    ]
