"""Clients of servers: one, a cluster's, the primary that sentinels name."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

import redis.asyncio
import redis.asyncio.connection
import redis.asyncio.retry
import redis.asyncio.sentinel
import redis.connection
import redis.retry
import redis.sentinel
from redis import exceptions as redis_errors
from redis.backoff import NoBackoff

from eventlog.cancellation import CancellableClient
from eventlog.cluster import ClusterClient
from eventlog.cluster_slots import SlotMap, slot_of
from eventlog.errors import ConfigurationError
from eventlog.keys import Keys
from eventlog.sentinel import BlockingSentinelPool, SentinelClient
from eventlog.server_address import Place, ServerAddress, parse_address
from eventlog.settings import Settings
from eventlog.url_secrets import without_secrets

MAX_CONNECTION_COUNT = 256
"""Beyond it a command waits for a connection; blocking readers hold one each."""

BULK_READ_BYTES = 1024 * 1024
"""Asked of the socket at a time: more than a unix socket holds, so that the server need not wait."""

_RAW_REPLIES = (
    "XRANGE",
    "XREVRANGE",
    "XREAD",
    "XREADGROUP",
    "XINFO STREAM",
    "CLUSTER SLOTS",
)
"""Bulk replies stay as the server's lists: redis-py's reshaping in Python is slow."""


def new_client(settings: Settings, url: str) -> redis.asyncio.Redis:
    """Return a client of the server at `url` that connects on its first command.

    Replies are bytes; XRANGE, XREVRANGE, XREAD, XREADGROUP and XINFO STREAM reply raw lists. No
    command is ever sent twice by itself, unless a cluster's node said that it did not execute it. User,
    password and database in the URL win over the settings'; the settings' password is for a named
    server, not for the embedded one. Close it with `aclose()`. Raises ConfigurationError for an address
    that cannot be parsed.
    """
    with _readable(url):
        address = parse_address(url)
        _check_database(address.one_server if address else url)
        if address is None:
            return _client_of(settings, _in_url(url))
        if address.kind == "sentinel":
            return _sentinel_client(settings, address)
        in_url = _in_url(address.one_server)
        if in_url.get("db", settings.db):
            raise ConfigurationError(
                f"{without_secrets(url, url)} is a cluster, which has database 0 alone.",
                remedy="Leave `db` out, and the url's /N; logs keep apart by key_prefix.",
            )
        return _cluster_client(settings, address, in_url)


def _in_url(url: str) -> dict[str, Any]:
    return dict(redis.asyncio.connection.parse_url(url))


def _client_of(settings: Settings, in_url: Mapping[str, Any]) -> CancellableClient:
    """Return a client of one server."""
    pool = redis.asyncio.connection.BlockingConnectionPool(
        **{**_options(settings, in_url), **_pool_options(settings)}
    )
    # A pool takes any option; the connection class refuses what it does not know.
    pool.connection_class(**pool.connection_kwargs)
    client = CancellableClient(connection_pool=pool)
    client.auto_close_connection_pool = True
    return _with_raw_replies(client)


def _cluster_client(
    settings: Settings, address: ServerAddress, in_url: Mapping[str, Any]
) -> ClusterClient:
    def make(place: Place) -> CancellableClient:
        host, port = place
        return _client_of(settings, {**in_url, "host": host, "port": port, "db": 0})

    return ClusterClient(
        address.places,
        make,
        home=Keys(settings.key_prefix).meta(),
        patience_s=settings.command_timeout_s,
    )


def _sentinel_client(settings: Settings, address: ServerAddress) -> SentinelClient:
    options = _options(settings, _in_url(address.one_server))
    of_server, of_sentinel = _for_sentinel(options)
    retry = {"retry": redis.asyncio.retry.Retry(NoBackoff(), 0)}
    sentinel = redis.asyncio.sentinel.Sentinel(
        address.places, sentinel_kwargs={**of_sentinel, **retry}
    )
    client: SentinelClient = sentinel.master_for(
        address.service,
        redis_class=SentinelClient,
        connection_pool_class=BlockingSentinelPool,
        **{**of_server, **_pool_options(settings)},
    )
    pool: Any = client.connection_pool
    pool.connection_class(**pool.connection_kwargs)
    return _with_raw_replies(client)


def _for_sentinel(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options of connections to the server, and of those to the sentinels."""
    own = {name: options.pop(f"sentinel_{name}", None) for name in ("username", "password")}
    is_tls = "ssl" in str(options.pop("connection_class", "")).lower()
    for name in ("host", "port"):
        options.pop(name, None)
    shared = {
        name: value
        for name, value in options.items()
        if name.startswith(("socket_", "ssl_")) or name in ("protocol", "retry")
    }
    return {**options, "ssl": is_tls}, {**shared, **own, "ssl": is_tls}


def _pool_options(settings: Settings) -> dict[str, Any]:
    return {
        "retry": redis.asyncio.retry.Retry(NoBackoff(), 0),
        "max_connections": MAX_CONNECTION_COUNT,
        "timeout": settings.command_timeout_s,
    }


C = TypeVar("C", bound=redis.asyncio.Redis)


def _with_raw_replies(client: C) -> C:
    for command in _RAW_REPLIES:
        client.response_callbacks.pop(command, None)
    return client


def _check_database(url: str) -> None:
    """Raise ValueError for a path that is no number, of which redis-py makes the database 0."""
    address = urlsplit(url)
    if address.scheme in ("redis", "rediss") and not re.fullmatch(r"/?\d*", address.path):
        raise ValueError(url)


def connect_in_bulk(settings: Settings, url: str, key: str) -> redis.connection.AbstractConnection:
    """Return a blocking connection to the server at `url` that has the key, for a thread that reads much.

    It connects on its first command (a cluster, and sentinels, are asked at once); replies are the
    server's lists of bytes. Reading a mebibyte at a time saves a sixth of the time of a program that
    reads through asyncio (measured). Close it with `disconnect()`. Raises ConfigurationError for an
    address that cannot be parsed, redis-py's errors where none of several servers answers.
    """
    with _readable(url):
        address = parse_address(url)
        in_url: dict[str, Any] = dict(
            redis.connection.parse_url(address.one_server if address else url)
        )
        make = in_url.pop("connection_class", redis.connection.Connection)
        options = {
            **_options(settings, in_url),
            "retry": redis.retry.Retry(NoBackoff(), 0),
            "socket_read_size": BULK_READ_BYTES,
        }
        of_server, of_sentinel = options, options
        if address is not None:
            of_server, of_sentinel = _for_sentinel({**options, "connection_class": make})
            of_server.pop("ssl")
        make(**of_server)  # the connection class refuses what it does not know
    if address is None:
        place = None
    elif address.kind == "sentinel":
        place = _primary(address, of_sentinel)
    else:
        place = _node_with(key, address.places, lambda at: make(**of_server, **_at(at)))
    connection: redis.connection.AbstractConnection = make(**of_server, **_at(place))
    return connection


def _at(place: Place | None) -> dict[str, Any]:
    return {} if place is None else {"host": place[0], "port": place[1]}


def _primary(address: ServerAddress, of_sentinel: dict[str, Any]) -> Place:
    """Return where the sentinels say that the primary is."""
    sentinel = redis.sentinel.Sentinel(address.places, sentinel_kwargs=of_sentinel)
    try:
        host, port = sentinel.discover_master(address.service)
    finally:
        for each in sentinel.sentinels:
            each.close()
    return str(host), int(port)


def _node_with(
    key: str,
    places: Sequence[Place],
    make: Callable[[Place], redis.connection.AbstractConnection],
) -> Place:
    """Return which node of a cluster has a key."""
    failure: Exception = redis_errors.ClusterDownError("no slot is served")
    for place in places:
        connection = make(place)
        try:
            connection.send_command("CLUSTER SLOTS")
            served = SlotMap.of_reply(connection.read_response(), place).served
            if found := served.get(slot_of(["GET", key]) or 0):
                return found
        except (redis_errors.RedisError, OSError) as error:
            failure = error
        finally:
            connection.disconnect()
    raise failure


def _options(settings: Settings, in_url: Mapping[str, Any]) -> dict[str, Any]:
    """Return what every connection is made with; what the URL says wins over the settings."""
    return {
        "db": settings.db,
        "password": settings.password if settings.url is not None else None,
        **in_url,
        "protocol": 2,
        "decode_responses": False,
        "retry_on_timeout": False,
        "retry_on_error": [],
        "socket_connect_timeout": settings.connect_timeout_s,
        "socket_timeout": settings.command_timeout_s,
    }


@contextlib.contextmanager
def _readable(url: str) -> Iterator[None]:
    """Raise ConfigurationError where the address is refused."""
    try:
        yield
    except (TypeError, ValueError, redis_errors.RedisError):
        # The cause is not shown: its text can hold a piece of the password.
        raise ConfigurationError(
            f"the server address {without_secrets(url, url)!r} cannot be used.",
            remedy="Write it as redis://user:password@host:port/db (or rediss://, or unix:///path, or"
            " redis+cluster://host:port,host:port, or redis+sentinel://host:port,host:port/SERVICE)"
            " with every `/`, `@`, `:`, `?` and `#` of user and password percent-encoded.",
        ) from None
