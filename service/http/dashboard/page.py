"""From a request to a page: who asks, what is shown around every page, and errors for people."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import structlog
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import Receive, Send
from starlette.types import Scope as AsgiScope

from eventlog.errors import EventLogError
from eventlog.settings import mask_url
from service.http.dashboard.forms import Form, FormTokens, read_form
from service.http.dashboard.glance import Glance, GlanceKeeper
from service.http.dashboard.rendering import render
from service.http.endpoint import Shared
from service.http.operation import Scope
from service.http.problem import INTERNAL, problem_of
from service.http.refusal import Refusal
from service.http.tokens import Grant
from service.wiring import Service

FRAGMENT = "X-Fragment"
"""Header of requests for a piece of a page, by the page itself."""

_log = structlog.get_logger("dashboard")


class Ask:
    """One request for a page."""

    def __init__(self, request: Request, shared: Shared, dashboard: Dashboard) -> None:
        self.request = request
        self.shared = shared
        self.service: Service = shared.service
        self.dashboard = dashboard
        self.grant: Grant | None = None
        self.form = Form({})
        self.now_us = shared.service.log.clock.now_us()

    def query(self, name: str) -> str | None:
        """Return a parameter of the query, None where it is not given or empty."""
        return self.request.query_params.get(name, "").strip() or None

    def path(self, name: str) -> str:
        """Return a parameter of the path."""
        return str(self.request.path_params[name])

    def allows(self, scope: Scope) -> bool:
        """Return whether who asks may do what needs that scope."""
        return self.grant is not None and self.grant.allows(scope)

    async def page(self, template: str, status: int = 200, **data: Any) -> Response:
        """Return a page with what stands around every page."""
        glance = await self.dashboard.glances.get(self.service)
        return self._html(template, status, glance=glance, **data)

    def bare_page(self, template: str, status: int = 200, **data: Any) -> Response:
        """Return a page that says nothing of the log: of who is not logged in."""
        return self._html(template, status, glance=None, **data)

    def _html(
        self, template: str, status: int, *, glance: Glance | None, **data: Any
    ) -> HTMLResponse:
        html = render(
            template,
            ask=self,
            path=self.request.url.path,
            glance=glance,
            form_token=self.dashboard.form_tokens.of(self.request),
            has_login=bool(self.shared.access.tokens),
            now_us=self.now_us,
            **data,
        )
        # Without a referrer browsers send `Origin: null` with forms, which could be any page's.
        return HTMLResponse(html, status, {"Referrer-Policy": "same-origin"})

    def error_page(self, error: EventLogError) -> Response:
        """Return the page that tells an error, and what to do next."""
        problem = problem_of(error)
        is_away = problem.status == HTTPStatus.SERVICE_UNAVAILABLE
        headers = dict(error.headers) if isinstance(error, Refusal) else {}
        told = {
            "code": error.code,
            "message": mask_url(error.message),
            "remedy": mask_url(error.remedy or ""),
        }
        response = self._html(
            "error.html",
            problem.status,
            glance=None,
            title="The log is away" if is_away else problem.title,
            is_away=is_away,
            error=told,
        )
        response.headers.update(headers)
        if is_away:
            response.headers.setdefault("Retry-After", "2")
        return response


Handler = Callable[[Ask], Awaitable[Response]]


class _Broken(EventLogError):
    """Something that is none of our errors; what it was stands in the service's log alone."""

    code = INTERNAL

    def __init__(self, error: Exception) -> None:
        super().__init__(
            "Something went wrong in making this page.",
            remedy="The service's log says what, under `page_failed`. The other pages go on.",
        )
        self.__cause__ = error


class Dashboard:
    """What all pages of an application share."""

    def __init__(self, shared: Shared) -> None:
        self.form_tokens = FormTokens(shared.access.tokens)
        self.glances = GlanceKeeper()

    @classmethod
    def of(cls, request: Request) -> Dashboard:
        """Return the application's."""
        state = request.app.state
        if not hasattr(state, "dashboard"):
            state.dashboard = cls(state.shared)
        found: Dashboard = state.dashboard
        return found


class PageEndpoint:
    """Serves one page, as an ASGI application."""

    def __init__(self, handler: Handler, scope: Scope) -> None:
        self.handler = handler
        self.scope = scope

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Answer one request; an error of ours is told as a page."""
        request = Request(scope, receive)
        ask = Ask(request, request.app.state.shared, Dashboard.of(request))
        try:
            response = await self._answer(ask)
        except EventLogError as error:
            if error.code not in ("not_found", "query_failed"):
                _log.info("page_refused", path=request.url.path, code=error.code)
            response = ask.error_page(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, who looks is told so in words
            _log.exception("page_failed", path=request.url.path)
            response = ask.error_page(_Broken(error))
        await response(scope, receive, send)

    async def _answer(self, ask: Ask) -> Response:
        access = ask.shared.access
        access.check_browser(ask.request)
        ask.grant = access.grant_of(ask.request)
        if ask.grant is None and self.scope != "open":
            return _to_login(ask.request)
        is_reading = ask.request.method in ("GET", "HEAD")
        if not is_reading:
            ask.form = await read_form(ask.request)
            ask.dashboard.form_tokens.check(ask.request, ask.form)
        if ask.grant is not None and not ask.grant.allows(self.scope):
            raise Refusal(
                "forbidden",
                f"you are logged in with a token that is not good for {self.scope!r}.",
                remedy="Log out, and in again with one that is.",
            )
        async with ask.shared.slots:
            return await self.handler(ask)


def _to_login(request: Request) -> Response:
    if request.headers.get(FRAGMENT):
        return Response(status_code=401)
    where = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    back = "" if request.method != "GET" or where == "/" else f"?next={quote(where, safe='')}"
    return RedirectResponse(f"/login{back}", 303)


def not_found(what: str, remedy: str) -> Refusal:
    """Return the error for something that is not there."""
    return Refusal("not_found", what, remedy=remedy)
