"""The cookie that a browser gets for a token: signed, of a bounded life, and no token itself."""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256

from starlette.responses import Response

from service.http.tokens import Grant, Tokens

COOKIE = "eventlog_session"
LIFE_S = 12 * 3600

_MARK_BYTES = 16


def set_cookie(
    response: Response, tokens: Tokens, grant: Grant, now_s: int, *, secure: bool
) -> None:
    """Let the browser that gets the response act with what a token is good for."""
    value = issue(tokens, grant, now_s)
    response.set_cookie(
        COOKIE, value, max_age=LIFE_S, httponly=True, samesite="strict", secure=secure, path="/"
    )


def clear_cookie(response: Response) -> None:
    """Take the cookie back."""
    response.delete_cookie(COOKIE, httponly=True, samesite="strict", path="/")


def issue(tokens: Tokens, grant: Grant, now_s: int) -> str:
    """Return a cookie's value: it holds no more of the token than a part of its digest's digest."""
    payload = _mark(grant) + (now_s + LIFE_S).to_bytes(8, "big")
    return urlsafe_b64encode(payload + _signature(tokens, payload)).decode()


def read(tokens: Tokens, value: str, now_s: int) -> Grant | None:
    """Return what the cookie is good for; None where it is forged, over, or its token is gone."""
    try:
        raw = urlsafe_b64decode(value.encode("ascii"))
    except ValueError:
        return None
    payload, signature = raw[: _MARK_BYTES + 8], raw[_MARK_BYTES + 8 :]
    if not hmac.compare_digest(signature, _signature(tokens, payload)):
        return None
    if int.from_bytes(payload[_MARK_BYTES:], "big") <= now_s:
        return None
    return tokens.find_mark(payload[:_MARK_BYTES], _mark)


def _mark(grant: Grant) -> bytes:
    return sha256(grant.digest).digest()[:_MARK_BYTES]


def _signature(tokens: Tokens, payload: bytes) -> bytes:
    return hmac.digest(tokens.key, payload, "sha256")
