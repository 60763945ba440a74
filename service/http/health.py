"""Whether the service lives and is ready, its metrics, and what it can do."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from service.http.counting import MEDIA_TYPE
from service.http.endpoint import json_response
from service.http.operation import Routes
from service.wiring import Service

routes = Routes("service")


class Health(msgspec.Struct, frozen=True):
    """Whether it lives."""

    status: Literal["ok"]


class Readiness(msgspec.Struct, frozen=True):
    """Whether it can do what it is for."""

    status: Literal["ready", "unavailable", "stopping"]
    is_degraded: bool
    """Whether appends go to the spool, or did and are not drained."""


@routes.get("/health", scope="open")
async def health(service: Service) -> Health:  # noqa: ARG001 - it needs nothing
    """Say that the process lives. It asks nobody, and so always answers."""
    return Health("ok")


@routes.get("/ready", scope="open", answer=Readiness)
async def ready(service: Service) -> Response:
    """Say whether the log can be reached; 503 where it cannot."""
    if service.is_stopping:
        found = Readiness("stopping", service.log.is_degraded)
    elif await service.is_ready():
        found = Readiness("ready", service.log.is_degraded)
    else:
        found = Readiness("unavailable", service.log.is_degraded)
    response = json_response(
        found, HTTPStatus.OK if found.status == "ready" else HTTPStatus.SERVICE_UNAVAILABLE
    )
    if found.status != "ready":
        response.headers["Retry-After"] = "2"
    return response


@routes.get("/openapi.json", scope="open")
async def openapi(service: Service, request: Request) -> Response:  # noqa: ARG001 - one shape for all
    """Return this document."""
    found: dict[str, Any] = request.app.state.openapi
    return json_response(found)


@routes.get("/metrics", media=(MEDIA_TYPE,))
async def metrics(service: Service, request: Request) -> Response:  # noqa: ARG001 - one shape for all
    """Return the metrics, as Prometheus reads them."""
    state = request.app.state
    return Response(await state.metrics(state.shared), media_type=MEDIA_TYPE)
