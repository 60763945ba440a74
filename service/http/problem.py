"""Errors as problem documents (RFC 9457), and the one table of which error has which status."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.responses import Response

from eventlog.errors import EventLogError
from eventlog.settings import mask_url
from service.http.refusal import CODES, Refusal

MEDIA_TYPE = "application/problem+json"
INTERNAL = "internal"
RETRY_AFTER_S = 2
"""When to come again where the log is away: about what a take-over or a restart takes."""

STATUSES: Mapping[str, HTTPStatus] = {
    "configuration": HTTPStatus.CONFLICT,
    "partition_mismatch": HTTPStatus.CONFLICT,
    "unsupported_server": HTTPStatus.CONFLICT,
    "unsafe_eviction": HTTPStatus.CONFLICT,
    "unsupported_durability": HTTPStatus.CONFLICT,
    "upcaster_gap": HTTPStatus.CONFLICT,
    "log_unavailable": HTTPStatus.SERVICE_UNAVAILABLE,
    "authentication_failed": HTTPStatus.SERVICE_UNAVAILABLE,
    "out_of_memory": HTTPStatus.SERVICE_UNAVAILABLE,
    "log_restoring": HTTPStatus.SERVICE_UNAVAILABLE,
    "embedded_server_failed": HTTPStatus.SERVICE_UNAVAILABLE,
    "archive_unavailable": HTTPStatus.SERVICE_UNAVAILABLE,
    "invalid_event": HTTPStatus.UNPROCESSABLE_ENTITY,
    "event_too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "empty_conversation": HTTPStatus.UNPROCESSABLE_ENTITY,
    "undecodable_payload": HTTPStatus.UNPROCESSABLE_ENTITY,
    "version_conflict": HTTPStatus.CONFLICT,
    "producer_gap": HTTPStatus.CONFLICT,
    "illegal_transition": HTTPStatus.CONFLICT,
    "session_exists": HTTPStatus.CONFLICT,
    "session_missing": HTTPStatus.NOT_FOUND,
    "unknown_platform": HTTPStatus.UNPROCESSABLE_ENTITY,
    "user_not_allowed": HTTPStatus.FORBIDDEN,
    "attempt_failed": HTTPStatus.CONFLICT,
    "send_failed": HTTPStatus.CONFLICT,
    "group_in_use": HTTPStatus.CONFLICT,
    "group_missing": HTTPStatus.NOT_FOUND,
    "history_gap": HTTPStatus.GONE,
    "fenced": HTTPStatus.CONFLICT,
    "projection_stopped": HTTPStatus.CONFLICT,
    "build_missing": HTTPStatus.CONFLICT,
    "invalid_query": HTTPStatus.BAD_REQUEST,
    "invalid_cursor": HTTPStatus.BAD_REQUEST,
    "log_not_open": HTTPStatus.SERVICE_UNAVAILABLE,
    "wrong_event_loop": HTTPStatus.INTERNAL_SERVER_ERROR,
    "backup_damaged": HTTPStatus.CONFLICT,
    "restore_refused": HTTPStatus.CONFLICT,
    "import_failed": HTTPStatus.UNPROCESSABLE_ENTITY,
    "query_failed": HTTPStatus.UNPROCESSABLE_ENTITY,
    "query_refused": HTTPStatus.FORBIDDEN,
    "query_too_large": HTTPStatus.UNPROCESSABLE_ENTITY,
    "query_timeout": HTTPStatus.UNPROCESSABLE_ENTITY,
    **CODES,
    "eventlog": HTTPStatus.INTERNAL_SERVER_ERROR,
    INTERNAL: HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""Code → status."""


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a request was not done."""

    type: str
    """`urn:eventlog:problem:CODE`."""
    title: str
    """The kind of problem in words."""
    status: int
    detail: str
    """What happened here, and what to do about it."""
    code: str
    """Stable, and safe to switch on."""
    pointer: str | None = None
    """The field at fault, as `$.events[2].text`."""
    request_id: str | None = None


def problem_of(error: Exception, request_id: str | None = None) -> Problem:
    """Return what is told of an error; of one that is none of ours nothing but that there was one."""
    if not isinstance(error, EventLogError):
        return _problem(INTERNAL, "Something went wrong here; the service's log says what.",
                        request_id=request_id)  # fmt: skip
    pointer = error.pointer if isinstance(error, Refusal) else None
    return _problem(error.code, mask_url(str(error)), pointer=pointer, request_id=request_id)


def _problem(code: str, detail: str, **more: Any) -> Problem:
    title = code.replace("_", " ").capitalize()
    status = STATUSES.get(code, HTTPStatus.INTERNAL_SERVER_ERROR)
    return Problem(f"urn:eventlog:problem:{code}", title, status, detail, code, **more)


def problem_response(error: Exception, request_id: str | None = None) -> Response:
    """Return the answer to a request that ended in the error."""
    problem = problem_of(error, request_id)
    headers = dict(error.headers) if isinstance(error, Refusal) else {}
    if problem.status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers.setdefault("Retry-After", str(RETRY_AFTER_S))
    return Response(
        msgspec.json.encode(problem), problem.status, headers=headers, media_type=MEDIA_TYPE
    )
