"""What a request asks: its parameters and its body, checked."""

from __future__ import annotations

import asyncio
import re
from typing import Any, get_origin
from urllib.parse import parse_qsl, unquote

import msgspec
from starlette.requests import ClientDisconnect, Request

from service.http.refusal import Refusal

_PLACE = re.compile(r" - at `([^`]*)`$")
_CLOSING = {"Connection": "close"}
"""What is left of a body that nobody reads must not be taken for the next request."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one client may cost the others."""

    body_bytes: int = 8 * 1024 * 1024
    body_timeout_s: float = 20.0
    """From the headers to the last byte of the body."""
    running_count: int = 64
    """Requests worked on at once: each may take several of the log's 256 connections."""
    waiting_count: int = 1024
    """That wait for others to be done; what comes beyond is told to come again."""
    wait_s: float = 10.0
    """How long each of them may wait."""
    stream_count: int = 5000
    """Open streams."""
    connection_count: int = 20_000
    """Open connections, where the process may have so many files."""


async def read_body(request: Request, limits: Limits) -> bytes:
    """Return the body. Raises Refusal where it is too large, too slow, or not JSON by its type."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Refusal(
            "unsupported_media_type",
            f"the body is {media_type or 'of no stated type'}, not application/json.",
            remedy="Send JSON, and `Content-Type: application/json`.",
            headers=_CLOSING,
        )
    declared = request.headers.get("content-length", "0")
    if declared.isascii() and declared.isdigit() and int(declared) > limits.body_bytes:
        raise _too_large(limits)
    body = bytearray()
    try:
        async with asyncio.timeout(limits.body_timeout_s):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limits.body_bytes:
                    raise _too_large(limits)
    except TimeoutError:
        raise Refusal(
            "request_timeout",
            f"the body did not come within {limits.body_timeout_s:g} s.",
            remedy="Send less at once.",
            headers=_CLOSING,
        ) from None
    except ClientDisconnect:
        raise Refusal("bad_request", "the client went before its body had come.") from None
    return bytes(body)


def decode_body(body: bytes, kind: type[Any]) -> Any:
    """Return the body as that type. Raises Refusal, which names the field at fault."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise _invalid(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal(
            "bad_request", f"the body is no JSON: {error}.", remedy="Send one JSON document, UTF-8."
        ) from None


def read_parameters(request: Request, kind: type[Any]) -> Any:
    """Return the parameters of path and query as that struct. Raises Refusal."""
    lists = {
        each.encode_name for each in msgspec.structs.fields(kind) if get_origin(each.type) is list
    }
    values: dict[str, Any] = {}
    for name, value in _query(request):
        if name in request.path_params:
            raise Refusal("bad_request", f"parameter {name!r} is in the path already.")
        if name in lists:
            values.setdefault(name, []).append(value)
        elif name in values:
            raise Refusal("bad_request", f"parameter {name!r} is given twice.")
        else:
            values[name] = value
    try:
        return msgspec.convert({**values, **request.path_params}, kind, strict=False)
    except msgspec.ValidationError as error:
        refusal = _invalid(error, "bad_request")
        if refusal.pointer:
            refusal.pointer = refusal.pointer.removeprefix("$.")
        raise refusal from None


def _query(request: Request) -> list[tuple[str, str]]:
    try:
        text = request.scope["query_string"].decode("ascii")
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=100)
    except ValueError:
        raise Refusal("bad_request", "the query is not valid UTF-8, percent-encoded.") from None


def decode_segment(segment: str) -> str:
    """Return one segment of a path as text. Raises Refusal where it is not UTF-8."""
    try:
        return unquote(segment, errors="strict")
    except UnicodeDecodeError:
        raise Refusal("bad_request", "the path is not valid UTF-8, percent-encoded.") from None


def _invalid(error: msgspec.ValidationError, code: str = "invalid_body") -> Refusal:
    text = str(error)
    place = _PLACE.search(text)
    return Refusal(
        code,
        f"{_PLACE.sub('', text)}{f' at {place[1]}' if place else ''}.",
        remedy="/openapi.json says what is taken.",
        pointer=place[1] if place else None,
    )


def _too_large(limits: Limits) -> Refusal:
    return Refusal(
        "body_too_large",
        f"the body is over {limits.body_bytes:,} bytes.",
        remedy="Send less at once; files belong into object storage.",
        headers=_CLOSING,
    )
