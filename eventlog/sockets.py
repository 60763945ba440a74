"""Sockets of an event loop that is over, or of the process that this one was forked from."""

from __future__ import annotations

import contextlib
from typing import Any

from redis.asyncio import Redis

from eventlog.cluster import ClusterClient
from eventlog.sentinel import SentinelClient


def drop_sockets(client: Redis, *, is_inherited: bool) -> None:
    """Close the client's sockets without its event loop, quietly.

    In a forked child (`is_inherited`) only our copies are closed: nothing is sent, and the parent's
    loop, whose selector we share, is not touched. Neither redis-py nor asyncio has a public way to
    do this, hence the private names; where one is missing, a socket stays open until the end.
    """
    for each in _single(client):
        _drop_pool(each.connection_pool, is_inherited=is_inherited)


def _single(client: Redis) -> list[Redis]:
    """Return the clients of single servers that a client is made of."""
    if isinstance(client, ClusterClient):
        return [*client.clients]
    if isinstance(client, SentinelClient):
        return [client, *client.sentinels.sentinels]
    return [client]


def _drop_pool(pool: Any, *, is_inherited: bool) -> None:
    for connection in [*pool._available_connections, *pool._in_use_connections]:  # noqa: SLF001
        writer = connection._writer  # noqa: SLF001
        connection._reader = connection._writer = None  # noqa: SLF001 - or it warns when collected
        if writer is not None:
            _drop(writer.transport, is_inherited=is_inherited)
    pool._available_connections.clear()  # noqa: SLF001
    pool._in_use_connections.clear()  # noqa: SLF001


def _drop(transport: Any, *, is_inherited: bool) -> None:
    if not is_inherited:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            transport.abort()
            return  # it is not: it closes the socket itself when it goes on
    # Of TLS, the transport below.
    transport = getattr(getattr(transport, "_ssl_protocol", None), "_transport", transport)
    socket = getattr(transport, "_sock", None)
    if socket is not None:
        socket.close()
        transport._sock = None  # noqa: SLF001 - or it warns when collected
