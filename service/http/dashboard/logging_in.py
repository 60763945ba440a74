"""Logging in: a token once, then a cookie that scripts cannot read and other sites cannot use."""

from __future__ import annotations

from http import HTTPStatus

from starlette.responses import RedirectResponse, Response

from service.http import login
from service.http.dashboard.page import Ask


async def login_page(ask: Ask) -> Response:
    """Return the form; who needs none goes on."""
    if ask.grant is not None:
        return RedirectResponse(_next(ask.query("next")), 303)
    return ask.bare_page("login.html", next=_next(ask.query("next")), is_wrong=False)


async def log_in(ask: Ask) -> Response:
    """Take a token, and give a cookie for it."""
    tokens = ask.shared.access.tokens
    grant = tokens.find(ask.form.get("token")) if tokens else None
    following = _next(ask.form.get("next"))
    if grant is None:
        return ask.bare_page(
            "login.html", status=HTTPStatus.UNAUTHORIZED, next=following, is_wrong=True
        )
    response = RedirectResponse(following, 303)
    now_s = ask.shared.access.now_s()
    is_secure = ask.request.url.scheme == "https"
    login.set_cookie(response, tokens, grant, now_s, secure=is_secure)
    return response


async def log_out(ask: Ask) -> Response:  # noqa: ARG001 - one shape for all
    """Take the cookie back."""
    response = RedirectResponse("/login", 303)
    login.clear_cookie(response)
    return response


def _next(asked: str | None) -> str:
    """Return where to go on: a path of ours, never another site."""
    is_ours = asked and asked.startswith("/") and not asked.startswith(("//", "/\\"))
    has_control = asked and any(ord(c) < 32 for c in asked)
    return str(asked) if is_ours and not has_control else "/"
