"""A reader of server-sent events that can be cut off anywhere, as a browser's is by a bad network."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit


class Sent(NamedTuple):
    """One event as it was dispatched."""

    event: str
    data: Any
    id: str | None
    """The last id seen up to it."""


class Source:
    """Reads one stream. `last_id` is what a browser would send when it comes back."""

    def __init__(self, url: str, path: str, last_id: str | None = None) -> None:
        self.address = urlsplit(url)
        self.path = path
        self.last_id = last_id
        self.status = 0
        self.comments = 0
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def open(self) -> Source:
        self._reader, self._writer = await asyncio.open_connection(
            self.address.hostname, self.address.port
        )
        lines = [f"GET {self.path} HTTP/1.1", f"Host: {self.address.netloc}"]
        if self.last_id is not None:
            lines.append(f"Last-Event-ID: {self.last_id}")
        self._writer.write("\r\n".join([*lines, "", ""]).encode())
        head = await self._reader.readuntil(b"\r\n\r\n")
        self.status = int(head.split()[1])
        return self

    async def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    async def chunks(self) -> AsyncIterator[bytes]:
        assert self._reader is not None
        while True:
            size = int(await self._reader.readuntil(b"\r\n"), 16)
            chunk = await self._reader.readexactly(size + 2)
            if not size:
                return
            yield chunk[:-2]

    async def events(self) -> AsyncIterator[Sent]:
        """Yield events until the stream ends; `last_id` is that of the last one that was whole."""
        rest = b""
        async for chunk in self.chunks():
            *blocks, rest = (rest + chunk).split(b"\n\n")
            for block in blocks:
                if (sent := self.parse(block.decode())) is not None:
                    yield sent

    def parse(self, block: str) -> Sent | None:
        fields = dict(
            line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":")
        )
        self.comments += any(line.startswith(":") for line in block.split("\n"))
        self.last_id = fields.get("id", self.last_id)
        if "data" not in fields:
            return None
        return Sent(fields.get("event", "message"), json.loads(fields["data"]), self.last_id)
