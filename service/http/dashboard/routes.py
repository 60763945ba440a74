"""The pages' addresses."""

from __future__ import annotations

import mimetypes
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from service.http.dashboard.archive import ArchivePages
from service.http.dashboard.conversations import conversation_page, conversations_page
from service.http.dashboard.letters import discard_letters, letters_page, replay_letters
from service.http.dashboard.logging_in import log_in, log_out, login_page
from service.http.dashboard.overview import OverviewPage
from service.http.dashboard.page import Handler, PageEndpoint
from service.http.dashboard.projections import ProjectionsPage
from service.http.dashboard.rendering import static_files
from service.http.dashboard.sessions import (
    say_in_session,
    session_page,
    sessions_page,
    start_session,
)
from service.http.dashboard.sql import download_sql, report_page, run_sql, sql_page
from service.http.endpoint import SegmentRoute
from service.http.operation import Scope


def pages() -> list[BaseRoute]:
    """Return the routes of all pages, and of what they load."""
    projections = ProjectionsPage()
    return [
        _page("/", OverviewPage()),
        _page("/conversations", conversations_page),
        _page("/conversations/{conversation}", conversation_page),
        _page("/sessions", sessions_page),
        _page("/sessions", start_session, "write", "POST"),
        _page("/sessions/{session}", session_page),
        _page("/sessions/{session}", say_in_session, "write", "POST"),
        _page("/dead-letters", letters_page),
        _page("/dead-letters/replay", replay_letters, "write", "POST"),
        _page("/dead-letters/discard", discard_letters, "write", "POST"),
        _page("/dead-letters/{letter}", letters_page),
        _page("/projections", projections),
        _page("/projections/{name}/rebuild", projections.rebuild, "admin", "POST"),
        _page("/projections/{name}/rollback", projections.roll_back, "admin", "POST"),
        _page("/projections/{name}/cancel", projections.cancel, "admin", "POST"),
        _page("/projections/{name}/drop", projections.drop, "admin", "POST"),
        _page("/archive", ArchivePages()),
        _page("/sql", sql_page),
        _page("/sql", run_sql, "read", "POST"),
        _page("/sql/result", download_sql, "read", "POST"),
        _page("/sql/reports/{name}", report_page),
        _page("/login", login_page, "open"),
        _page("/login", log_in, "open", "POST"),
        _page("/logout", log_out, "open", "POST"),
        Route("/static/{name}", _static, methods=["GET"], name="static"),
        Route("/favicon.ico", _favicon, methods=["GET"], name="favicon"),
    ]


def _page(path: str, handler: Handler, scope: Scope = "read", method: str = "GET") -> SegmentRoute:
    return SegmentRoute(path, PageEndpoint(handler, scope), methods=[method], name=f"page {path}")


async def _static(request: Request) -> Response:
    name = request.path_params["name"]
    content = static_files().get(name)
    if content is None:
        return Response(status_code=HTTPStatus.NOT_FOUND)
    # The address has the content's version in it.
    headers = {"Cache-Control": "public, max-age=31536000, immutable"}
    media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return Response(content, headers=headers, media_type=media_type)


async def _favicon(request: Request) -> Response:  # noqa: ARG001 - one shape for all
    return Response(
        static_files()["icon.svg"],
        headers={"Cache-Control": "public, max-age=86400"},
        media_type="image/svg+xml",
    )
