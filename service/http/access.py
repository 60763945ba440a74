"""Whether a request may be done: its token or cookie, and whether a browser was lured into it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.requests import Request

from eventlog.errors import ConfigurationError
from service.http import login
from service.http.operation import Scope
from service.http.refusal import Refusal
from service.http.tokens import EVERYTHING, Grant, Tokens

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_SITES = frozenset({"same-origin", "none"})
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


def require_private(host: str, tokens: Tokens) -> None:
    """Ensure that the service is not open to a network without a token. Raises ConfigurationError."""
    if tokens or is_loopback(host):
        return
    raise ConfigurationError(
        f"HTTP on {host!r} would be open to whoever reaches it.",
        remedy="Set EVENTLOG_HTTP_TOKENS or EVENTLOG_HTTP_TOKENS_FILE, or bind to 127.0.0.1.",
    )


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches that address."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


class Access:
    """The rules of one service."""

    def __init__(
        self, tokens: Tokens, now_s: Callable[[], int], origins: Iterable[str] = ()
    ) -> None:
        """Pages of `origins` may call as the service's own may."""
        self.tokens = tokens
        self.now_s = now_s
        self.origins = frozenset(origins)

    def check(self, request: Request, scope: Scope) -> Grant:
        """Return what whoever asks may do. Raises Refusal where this is not part of it."""
        self.check_browser(request)
        grant = self.grant_of(request)
        if grant is None:
            raise Refusal(
                "unauthenticated",
                "a bearer token is needed.",
                remedy="Send `Authorization: Bearer TOKEN`.",
                headers={"WWW-Authenticate": 'Bearer realm="eventlog"'},
            )
        if not grant.allows(scope):
            challenge = f'Bearer realm="eventlog", error="insufficient_scope", scope="{scope}"'
            raise Refusal(
                "forbidden",
                f"the token is not good for {scope!r}.",
                remedy="Use one that is.",
                headers={"WWW-Authenticate": challenge},
            )
        return grant

    def grant_of(self, request: Request) -> Grant | None:
        """Return what whoever asks may do, None where nobody known asks. Raises Refusal."""
        if not self.tokens:
            return EVERYTHING
        header = request.headers.get("authorization")
        if header is not None:
            kind, _, token = header.partition(" ")
            grant = self.tokens.find(token.strip()) if kind.lower() == "bearer" else None
            if grant is None:
                raise Refusal(
                    "unauthenticated",
                    "the token is not known.",
                    remedy="Ask whoever runs the service for one.",
                    headers={"WWW-Authenticate": 'Bearer realm="eventlog", error="invalid_token"'},
                )
            return grant
        cookie = request.cookies.get(login.COOKIE)
        return None if cookie is None else login.read(self.tokens, cookie, self.now_s())

    def check_browser(self, request: Request) -> None:
        """Refuse what another site's page makes a browser do. Raises Refusal.

        Without tokens the name must be this machine's, so that no site can name itself like it
        (DNS rebinding); what changes anything must come from the service's own pages, or from no
        page at all.
        """
        if not self.tokens and _host_name(request) not in _LOCAL_NAMES:
            raise _untrusted("the request is for a host of another name.")
        if request.method in _SAFE:
            return
        origin = request.headers.get("origin")
        if origin in self.origins:
            return
        if request.headers.get("sec-fetch-site", "none") not in _OWN_SITES:
            raise _untrusted("the request comes from another site's page.")
        if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
            raise _untrusted("the request comes from another origin's page.")


def _host_name(request: Request) -> str:
    try:
        return urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    except ValueError:
        return ""


def _untrusted(message: str) -> Refusal:
    return Refusal(
        "untrusted_origin",
        message,
        remedy="Call by localhost or 127.0.0.1, or set tokens; name other pages in `http_origins`.",
    )
