"""One request to a platform: its reply, or SendFailed in words to count by.

    unreachable       no connection came about: nothing was sent
    untrusted         the server's certificate does not hold: nothing was sent
    connection_lost   cut before a whole reply: it may have been taken
    timeout           no whole reply in time: it may have been taken
    invalid_reply     not HTTP, or too much of it: it may have been taken

What a URL holds beside scheme, host and port may be a secret, so none of it is ever shown.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from eventlog.errors import ConfigurationError, SendFailed

MASK = "***"
MAX_EXCERPT_CHARACTERS = 200
_MIN_SECRET_CHARACTERS = 8
"""A shorter piece of a URL is a word like `api`, not a secret."""


class HttpLimits(NamedTuple):
    """How long a platform may take, and how much it may say."""

    connect_timeout_s: float = 5.0
    total_timeout_s: float = 30.0
    """From the start to the reply's last byte."""
    max_reply_bytes: int = 64 * 1024


class Reply(NamedTuple):
    """What the platform said. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    fault: SendFailed | None = None
    """What kept the body from being read whole; `body` is empty then."""


class HttpClient:
    """Speaks to one server. The connections belong to the running loop and are made when needed."""

    def __init__(
        self, url: str, *, secrets: Collection[str] = (), limits: HttpLimits | None = None
    ) -> None:
        """Raise ConfigurationError for a URL that is none. `secrets` are masked in every text."""
        self._url = _checked(url)
        self.origin = str(self._url.origin())
        shown = {*secrets, *_secrets_in(self._url)} - {""}
        spelled = shown | {quote(secret, safe="") for secret in shown}
        # The longest first: one may be part of another.
        self._secrets = sorted(spelled, key=len, reverse=True)
        self._limits = limits or HttpLimits()
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.origin!r})"

    async def post(self, body: bytes, headers: Mapping[str, str], *, path: str = "") -> Reply:
        """Return the reply, of whatever status; redirects are not followed.

        `path` is appended to the URL's. Raises SendFailed where there is no reply.
        """
        return await self._request("POST", self._at(path), headers, body)

    async def get(
        self, headers: Mapping[str, str], *, path: str = "", query: Mapping[str, str] | None = None
    ) -> Reply:
        """Return what the server has at `path`, otherwise as `post`."""
        url = self._at(path)
        return await self._request("GET", url.update_query(query) if query else url, headers)

    def _at(self, path: str) -> URL:
        return self._url.joinpath(path.lstrip("/"), encoded=True) if path else self._url

    async def _request(
        self, method: str, url: URL, headers: Mapping[str, str], body: bytes | None = None
    ) -> Reply:
        try:
            async with (await self._open()).request(
                method, url, data=body, headers=headers, allow_redirects=False
            ) as response:
                content, fault = await self._read(response)
                names = {name.lower(): value for name, value in response.headers.items()}
                return Reply(response.status, names, content, fault)
        except (aiohttp.ClientError, OSError) as error:
            failure = self._failure(error)
        # Outside of `except`: aiohttp's error has the URL in it and must not hang on to ours.
        raise failure

    async def post_json(
        self, value: dict[str, Any], headers: Mapping[str, str] | None = None, *, path: str = ""
    ) -> Reply:
        """Post `value` as JSON, otherwise as `post`."""
        typed = {"Content-Type": "application/json", **(headers or {})}
        return await self.post(msgspec.json.encode(value), typed, path=path)

    async def close(self) -> None:
        """Close the connections; the next `post` opens new ones."""
        session, self._session, self._loop = self._session, None, None
        if session is not None:
            await session.close()

    def excerpt(self, text: str | bytes) -> str:
        """Return the start of what a platform said, on one line and without secrets."""
        if isinstance(text, bytes):
            text = text.decode(errors="replace")
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        return line if len(line) <= MAX_EXCERPT_CHARACTERS else line[:MAX_EXCERPT_CHARACTERS] + "…"

    async def _open(self) -> aiohttp.ClientSession:
        """Return the session of the running loop; one of a loop that has ended is dropped."""
        if self._loop is not asyncio.get_running_loop():
            await self.close()
        if self._session is None:
            self._loop = asyncio.get_running_loop()
            self._session = aiohttp.ClientSession(
                # How many deliveries run at once is the worker's to bound; waiting for a connection
                # here would count as the platform's time.
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(
                    total=self._limits.total_timeout_s, connect=self._limits.connect_timeout_s
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                # Unpacked, a small reply could be of any size.
                auto_decompress=False,
                headers={"User-Agent": "eventlog", "Accept-Encoding": "identity"},
            )
        return self._session

    async def _read(self, response: aiohttp.ClientResponse) -> tuple[bytes, SendFailed | None]:
        body = bytearray()
        limit = self._limits.max_reply_bytes
        try:
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > limit:
                    return b"", self._failed(f"sent more than {limit:,} bytes", "invalid_reply")
        except (aiohttp.ClientError, OSError) as error:
            return b"", self._failure(error)
        return bytes(body), None

    def _failure(self, error: aiohttp.ClientError | OSError) -> SendFailed:
        """Return what happened; an OSError is a time-out, or one that aiohttp let through."""
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return self._failed("could not be connected to in time", "unreachable")
        if isinstance(error, TimeoutError):
            return self._failed("did not answer in time", "timeout")
        if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
            return self._failed(
                "did not prove who it is",
                "untrusted",
                remedy="Mend its TLS certificate, or the URL.",
            )
        if isinstance(error, aiohttp.ClientConnectorError):
            return self._failed(f"could not be connected to ({_cause(error)})", "unreachable")
        if isinstance(error, aiohttp.ClientResponseError):
            return self._failed("answered what is not HTTP", "invalid_reply")
        return self._failed("cut the connection", "connection_lost")

    def _failed(self, what: str, reason: str, remedy: str = "") -> SendFailed:
        return SendFailed(f"{self.origin} {what}.", reason=reason, remedy=remedy)


def _cause(error: aiohttp.ClientConnectorError) -> str:
    """Return the system's word for it, which names no URL."""
    number = error.os_error.errno or 0
    known = os.strerror(number) if number > 0 else error.os_error.strerror
    return (known or type(error.os_error).__name__).lower()


def _checked(url: str) -> URL:
    try:
        parsed = URL(url)
        if parsed.scheme in ("http", "https") and parsed.host and parsed.port:
            parsed.host.encode("idna")  # what a look-up does, and fails at
            return parsed
    except ValueError:
        pass
    raise ConfigurationError(
        "a server's URL is not one.", remedy="Give one that begins with http:// or https://."
    )


def _secrets_in(url: URL) -> set[str]:
    """Return what of a URL may be a secret, as it is and as it is spelled on the wire."""
    pieces = [url.path, url.raw_path, url.raw_path_qs, url.query_string, url.raw_query_string]
    pieces += [*url.parts, *url.raw_parts, *url.query.values()]
    own = [piece for piece in (url.user, url.password, url.raw_password) if piece]
    return {piece for piece in pieces if len(piece) >= _MIN_SECRET_CHARACTERS} | set(own)
