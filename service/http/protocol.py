"""uvicorn's HTTP protocol with two deadlines that it has not: for the headers, and for a stalled reader."""

from __future__ import annotations

import asyncio
from asyncio import TimerHandle
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADERS_WITHIN_S = 10.0
"""From the first byte of a connection, or of its next request, until its headers are there."""
TAKEN_WITHIN_S = 30.0
"""How long a client may take nothing of what is sent to it before it is cut off."""
MAX_HEADER_BYTES = 64 * 1024


class Protocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *arguments: Any, most_connections: int, **named: Any) -> None:
        """Of `most_connections` at once; what comes beyond is closed immediately."""
        super().__init__(*arguments, **named)
        self._most_connections = most_connections

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Expect a request."""
        super().connection_made(transport)
        self._header_bytes = 0
        self._stalled: TimerHandle | None = None
        self._awaited: TimerHandle | None = None
        self._await_headers()
        if len(self.connections) > self._most_connections:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of the deadlines."""
        super().connection_lost(exc)
        for timer in (self._stalled, self._awaited):
            if timer is not None:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Take what came, unless its headers have no end."""
        if self._awaited is not None:
            self._header_bytes += len(data)
        super().data_received(data)
        if self._awaited is not None and self._header_bytes > MAX_HEADER_BYTES:
            self._give_up()

    def on_message_begin(self) -> None:
        """Expect the headers of a request."""
        super().on_message_begin()
        self._await_headers()

    def on_headers_complete(self) -> None:
        """Begin the request."""
        if self._awaited is not None:
            self._awaited.cancel()
            self._awaited = None
        self._header_bytes = 0
        super().on_headers_complete()

    def pause_writing(self) -> None:
        """Note that the client is not taking what it is sent."""
        super().pause_writing()
        self._stalled = self.loop.call_later(TAKEN_WITHIN_S, self.transport.abort)

    def resume_writing(self) -> None:
        """Note that it does again."""
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _await_headers(self) -> None:
        if self._awaited is None:
            self._awaited = self.loop.call_later(HEADERS_WITHIN_S, self._give_up)

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()
