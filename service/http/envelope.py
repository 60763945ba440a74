"""What every request gets around it: an id, safe headers, and errors told as problem documents."""

from __future__ import annotations

import re
import time
from http import HTTPStatus

import structlog
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from eventlog.correlation import correlated
from eventlog.errors import EventLogError
from eventlog.ids import new_event_id
from eventlog.logs import get_logger
from service.http.counting import Counting
from service.http.problem import problem_response

REQUEST_ID = "X-Request-ID"
_GIVEN_ID = re.compile(r"[A-Za-z0-9._:@/+=-]{1,128}")

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"})
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
"""What a page of ours may load: what comes from here."""
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"content-security-policy", POLICY.encode()),
    (b"cache-control", b"no-store"),
]
"""Of every response that does not say otherwise."""

_log = get_logger("http")


class Envelope:
    """The outermost middleware."""

    def __init__(self, app: ASGIApp, counting: Counting) -> None:
        self._app = app
        self._counting = counting

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; whatever happens, it is answered."""
        if scope["type"] != "http":
            return
        asked_id = Request(scope).headers.get(REQUEST_ID, "")
        own_id = asked_id if _GIVEN_ID.fullmatch(asked_id) else new_event_id()
        started_s = time.perf_counter()
        status = 0

        async def finish(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
                given = message.get("headers", [])
                names = {name for name, _ in given}
                own = [(b"x-request-id", own_id.encode())]
                message["headers"] = [*given, *own, *(h for h in _HEADERS if h[0] not in names)]
            await send(message)

        with correlated(own_id), structlog.contextvars.bound_contextvars(request_id=own_id):
            try:
                await self._app(scope, receive, finish)
            except Exception as error:  # noqa: BLE001 - the last resort: it must be answered
                if not isinstance(error, EventLogError):
                    _log.exception("request_failed", method=scope["method"])
                if status:
                    _log.warning("response_cut_short", error=type(error).__name__)
                    return
                await problem_response(error, own_id)(scope, receive, finish)
            finally:
                self._told(scope, status, time.perf_counter() - started_s)

    def _told(self, scope: Scope, status: int, elapsed_s: float) -> None:
        route = getattr(scope.get("route"), "path", "")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._counting.observe(method, route, status, elapsed_s)
        tell = _log.warning if status == HTTPStatus.INTERNAL_SERVER_ERROR else _log.debug
        elapsed_ms = round(elapsed_s * 1000, 1)
        tell("request", method=method, route=route, status=status, elapsed_ms=elapsed_ms)
