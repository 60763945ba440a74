"""What a form of ours sends: fields, and the token that shows it was ours."""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qs

from starlette.requests import ClientDisconnect, Request

from service.http import login
from service.http.refusal import Refusal
from service.http.tokens import Tokens

MAX_FORM_BYTES = 1024 * 1024
MAX_FORM_FIELDS = 2000
FORM_TIMEOUT_S = 20.0
TOKEN = "form"  # noqa: S105 - the name of the field

_MEDIA_TYPE = "application/x-www-form-urlencoded"


class Form:
    """The fields of a form."""

    def __init__(self, fields: Mapping[str, Sequence[str]]) -> None:
        self._fields = fields

    def get(self, name: str, default: str = "") -> str:
        """Return a field's value without the space around it."""
        return self._fields.get(name, [default])[0].strip()

    def all(self, name: str) -> list[str]:
        """Return every value of a field."""
        return list(self._fields.get(name, ()))


class FormTokens:
    """Makes and checks the tokens of forms: only pages that we gave to this browser have them."""

    def __init__(self, tokens: Tokens) -> None:
        # Where access needs no token, only this machine asks, and this process's pages are its own.
        self._key = tokens.key if tokens else secrets.token_bytes(32)

    def of(self, request: Request) -> str:
        """Return the token for whoever asks."""
        whose = request.cookies.get(login.COOKIE, "")
        return hmac.digest(self._key, b"form:" + whose.encode(), "sha256").hex()

    def check(self, request: Request, form: Form) -> None:
        """Return if the form is ours. Raises Refusal."""
        if not hmac.compare_digest(form.get(TOKEN).encode(), self.of(request).encode()):
            raise Refusal(
                "untrusted_origin",
                "the form is not one of this page as it is now.",
                remedy="Go back, reload the page, and send it again.",
            )


async def read_form(request: Request) -> Form:
    """Return what a form sends. Raises Refusal."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != _MEDIA_TYPE:
        raise Refusal("unsupported_media_type", f"a form is sent as {_MEDIA_TYPE}.")
    body = bytearray()
    try:
        async with asyncio.timeout(FORM_TIMEOUT_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_FORM_BYTES:
                    raise Refusal(
                        "body_too_large",
                        f"the form is over {MAX_FORM_BYTES:,} bytes.",
                        headers={"Connection": "close"},
                    )
    except TimeoutError:
        raise Refusal("request_timeout", "the form did not come in time.") from None
    except ClientDisconnect:
        raise Refusal("bad_request", "the client went before its form had come.") from None
    try:
        fields = parse_qs(
            body.decode(), keep_blank_values=True, errors="strict", max_num_fields=MAX_FORM_FIELDS
        )
    except ValueError:
        raise Refusal(
            "bad_request", "the form is not valid UTF-8, or has too many fields."
        ) from None
    return Form(fields)
