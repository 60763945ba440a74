"""What marks a log that is being restored, so that nobody takes it for whole.

The log's metadata name who restores it: whoever opens it is told. A partition that is not whole yet has
a guard in place of its head: appends and readers of programs that are open already are told as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from eventlog.connection import Connected, connect
from eventlog.embedded import EmbeddedServer
from eventlog.errors import LogRestoring
from eventlog.ids import START, EntryId
from eventlog.settings import Settings

FIELD = "restoring"
"""Of the log's metadata."""

GUARD = "restoring "
"""Begins what stands in place of a head."""


class Marker(msgspec.Struct, frozen=True):
    """A restore that is under way, or was cut short."""

    source: str
    """What is restored: the same source goes on where it was cut short."""
    token: str
    """Who restores it; whoever takes over draws a new one, which fences the one before."""

    is_guarded: bool = False
    """Whether every partition has its guard: one that has a head is whole from then on."""

    @property
    def guard(self) -> str:
        """What stands in place of the head of a partition that is not whole yet."""
        return GUARD + self.token


def encode_marker(marker: Marker) -> str:
    """Return the marker as it stands in the metadata."""
    return msgspec.json.encode(marker).decode()


def decode_marker(text: str | bytes) -> Marker:
    """Return the marker that stands in the metadata."""
    return msgspec.json.decode(text, type=Marker)


def is_guard(head: bytes) -> bool:
    """Return whether a guard stands in place of a head."""
    return head.startswith(GUARD.encode())


def read_head(log: str, head: bytes | None) -> EntryId:
    """Return the head that a partition's key holds. Raises LogRestoring where it is a guard."""
    if head is None:
        return START
    if is_guard(head):
        raise LogRestoring.of(log)
    return EntryId.parse(head)


@asynccontextmanager
async def reached_server(settings: Settings) -> AsyncIterator[Connected]:
    """Give the server of the settings, the embedded one where they name none; no log is created.

    Raises as `EventLog.open` does.
    """
    embedded = EmbeddedServer(settings) if settings.url is None else None
    try:
        url = await asyncio.to_thread(embedded.start) if embedded else settings.url
        assert url is not None
        reached = await connect(settings, url)
        try:
            yield reached
        finally:
            await reached.client.aclose()
    finally:
        if embedded is not None:
            await asyncio.to_thread(embedded.release)
