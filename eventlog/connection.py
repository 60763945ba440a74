"""The client of a server, what the server can do, and its faults in our words."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, quote_plus, unquote, unquote_plus, urlsplit

import redis.asyncio
import redis.asyncio.connection
import redis.asyncio.retry
import redis.connection
import redis.retry
from redis import exceptions as redis_errors
from redis.backoff import NoBackoff

from eventlog.cancellation import CancellableClient
from eventlog.errors import (
    AuthenticationFailed,
    ConfigurationError,
    EventLogError,
    LogRestoring,
    LogUnavailable,
    OutOfMemory,
    UnsafeEviction,
    UnsupportedServer,
)
from eventlog.keys import log_of
from eventlog.settings import Settings, mask_url

MAX_CONNECTION_COUNT = 256
"""Beyond it a command waits for a connection; blocking readers hold one each."""

BULK_READ_BYTES = 1024 * 1024
"""Asked of the socket at a time: more than a unix socket holds, so that the server need not wait."""

MINIMUM_VERSIONS = {"redis": (7, 0), "valkey": (8, 0)}

_RAW_REPLIES = ("XRANGE", "XREVRANGE", "XREAD", "XREADGROUP", "XINFO STREAM")
"""Bulk replies stay as the server's lists: redis-py's reshaping in Python is slow."""


async def connect(settings: Settings, url: str) -> redis.asyncio.Redis:
    """Return `new_client`, in the event loop that is to use it."""
    return new_client(settings, url)


def new_client(settings: Settings, url: str) -> redis.asyncio.Redis:
    """Return a client of the server at `url` that connects on its first command.

    Replies are bytes; XRANGE, XREVRANGE, XREAD, XREADGROUP and XINFO STREAM reply raw lists. No
    command is ever sent twice by itself. User, password and database in the URL win over the
    settings'; the settings' password is for a named server, not for the embedded one. Close it
    with `aclose()`. Raises ConfigurationError for an address that cannot be parsed.
    """
    options = {
        "retry": redis.asyncio.retry.Retry(NoBackoff(), 0),
        "max_connections": MAX_CONNECTION_COUNT,
        "timeout": settings.command_timeout_s,
    }
    with _readable(url):
        _check_database(url)
        in_url: dict[str, Any] = dict(redis.asyncio.connection.parse_url(url))
        pool = redis.asyncio.connection.BlockingConnectionPool(
            **{**_options(settings, in_url), **options}
        )
        # A pool takes any option; the connection class refuses what it does not know.
        pool.connection_class(**pool.connection_kwargs)
    client = CancellableClient.from_pool(pool)
    for command in _RAW_REPLIES:
        client.response_callbacks.pop(command, None)
    return client


def _check_database(url: str) -> None:
    """Raise ValueError for a path that is no number, of which redis-py makes the database 0."""
    address = urlsplit(url)
    if address.scheme in ("redis", "rediss") and not re.fullmatch(r"/?\d*", address.path):
        raise ValueError(url)


def connect_in_bulk(settings: Settings, url: str) -> redis.connection.AbstractConnection:
    """Return a blocking connection to the server at `url`, for a thread that reads much.

    It connects on its first command; replies are the server's lists of bytes. Reading a mebibyte at
    a time saves a sixth of the time of a program that reads through asyncio (measured). Close it
    with `disconnect()`. Raises ConfigurationError for an address that cannot be parsed.
    """
    with _readable(url):
        in_url: dict[str, Any] = dict(redis.connection.parse_url(url))
        make = in_url.pop("connection_class", redis.connection.Connection)
        options = {
            "retry": redis.retry.Retry(NoBackoff(), 0),
            "socket_read_size": BULK_READ_BYTES,
        }
        connection: redis.connection.AbstractConnection = make(
            **{**_options(settings, in_url), **options}
        )
    return connection


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
            f"the server address {_without_secrets(url, url)!r} cannot be used.",
            remedy="Write it as redis://user:password@host:port/db (or rediss://, or unix:///path)"
            " with every `/`, `@`, `:`, `?` and `#` of user and password percent-encoded.",
        ) from None


class ServerInfo(NamedTuple):
    """What a server is and can do."""

    name: str
    """`redis` or `valkey`."""
    version: tuple[int, ...]
    is_appendonly: bool
    has_waitaof: bool
    """Whether it has a WAITAOF that can be believed. Valkey's, and Redis's from 7.4 up to 8.0, confirms at
    `appendfsync everysec` before the sync (github.com/redis/redis/pull/13793)."""
    is_cluster: bool
    is_replica: bool
    eviction_policy: str
    """`unknown` where the server tells nobody."""
    max_memory_bytes: int


async def check_server(client: redis.asyncio.Redis) -> ServerInfo:
    """Return what the server is, once it is known to be fit to keep a log.

    Raises UnsupportedServer, UnsafeEviction, AuthenticationFailed and LogUnavailable.
    """
    try:
        info: dict[str, Any] = await client.info()
        if "maxmemory_policy" not in info:
            # CONFIG is often forbidden, INFO rarely: it is asked only for what INFO left out.
            with contextlib.suppress(redis_errors.ResponseError):
                reply = await client.config_get("maxmemory-policy")
                info["maxmemory_policy"] = reply["maxmemory-policy"]
    except (redis_errors.RedisError, OSError) as error:
        known = translate(error, _address(client))
        if known is None and "DB index" in str(error):
            raise ConfigurationError(
                f"{_address(client)} has no such database.", remedy="Give `db`, or the url's /N."
            ) from None
        raise known or error from None
    server = parse_server(info)
    require_fit(server)
    return server


def _address(client: redis.asyncio.Redis) -> str:
    where = client.get_connection_kwargs()
    if "path" in where:
        return f"unix://{where['path']}"
    return f"redis://{where.get('host', 'localhost')}:{where.get('port', 6379)}"


def parse_server(info: Mapping[str, Any]) -> ServerInfo:
    """Return what a parsed INFO reply says of its server."""
    name = "valkey" if "valkey_version" in info else "redis"
    version = tuple(int(n) for n in re.findall(r"\d+", str(info[f"{name}_version"]))[:3])
    return ServerInfo(
        name=name,
        version=version,
        is_appendonly=bool(info.get("aof_enabled")),
        has_waitaof=name == "redis" and ((7, 2) <= version < (7, 4) or version >= (8, 0)),
        is_cluster=bool(info.get("cluster_enabled")),
        is_replica=info.get("role") == "slave",
        eviction_policy=str(info.get("maxmemory_policy", "unknown")),
        max_memory_bytes=int(info.get("maxmemory", 0)),
    )


def require_fit(server: ServerInfo) -> None:
    """Ensure that the server can keep a log. Raises UnsupportedServer or UnsafeEviction."""
    if server.version < MINIMUM_VERSIONS[server.name]:
        shown = ".".join(map(str, server.version))
        raise UnsupportedServer(
            f"the server is {server.name} {shown}.",
            remedy="Use Redis 7.0 or newer or Valkey 8 or newer, or leave url out for the"
            " embedded server.",
        )
    if server.eviction_policy not in ("noeviction", "unknown"):
        raise UnsafeEviction(
            f"the server's maxmemory-policy is {server.eviction_policy}: it may drop events.",
            remedy="Run `CONFIG SET maxmemory-policy noeviction` and write it into its config file.",
        )


EMBEDDED = "the embedded server"
"""What the text of an error calls a server that has no address."""


@contextlib.contextmanager
def in_our_words(settings: Settings) -> Iterator[None]:
    """Raise the client's errors as our own: what `translate` knows, else a plain EventLogError."""
    try:
        yield
    except (redis_errors.RedisError, OSError) as error:
        known = translate(error, settings.url or EMBEDDED)
        raise known or EventLogError(f"the server answered: {mask_url(str(error))}") from None


def translate(error: Exception, url: str) -> EventLogError | None:
    """Return the error of our tree that says what a client's error means, None for a bug's.

    `url` is where the client was sent; its credentials are cut out of the text. Pure.
    """
    place = _without_secrets(url, url)
    error = _origin(error)
    code = getattr(error, "status_code", None) or str(error).partition(" ")[0]
    reason = _without_secrets(f"{code} {error}" if code in _CODES else str(error), url)
    reason = " ".join(reason.split()).rstrip(".") or type(error).__name__
    if isinstance(error, _AUTHENTICATION) or code in _AUTHENTICATION_CODES:
        remedy = (
            "Grant the user all commands on the log's keys (ACL SETUSER … ~* &* +@all)."
            if code == "NOPERM"
            else "Set REDIS_PASSWORD, or the user and password in REDIS_URL."
        )
        return AuthenticationFailed(f"{place} refused us: {reason}.", remedy=remedy)
    if isinstance(error, redis_errors.OutOfMemoryError) or code == "OOM":
        return OutOfMemory(
            f"{place} is out of memory: {reason}.",
            remedy="Raise its maxmemory, or let the archive catch up and trim the log.",
        )
    if code == "HEADLOST":
        return EventLogError(
            "the log's head was deleted while its entries are still there.",
            remedy="Restore the server from a backup; do not delete keys of the log by hand.",
        )
    if code == "RESTORING":
        return LogRestoring.of(log_of(str(error).rpartition(" ")[2]))
    if code in _UNAVAILABLE_CODES:
        return LogUnavailable(f"{place} cannot serve: {reason}.", remedy=_UNAVAILABLE_CODES[code])
    if isinstance(error, _UNREACHABLE):
        return LogUnavailable(
            f"{place} cannot be reached: {reason}.",
            remedy="Check that the server runs and that the address, the network and TLS are right.",
        )
    return None


_AUTHENTICATION = (
    redis_errors.AuthenticationError,
    redis_errors.AuthorizationError,
    redis_errors.AuthenticationWrongNumberOfArgsError,
    redis_errors.NoPermissionError,
)
_AUTHENTICATION_CODES = frozenset({"NOAUTH", "WRONGPASS", "NOPERM"})
_UNAVAILABLE_CODES = {
    "LOADING": "It is reading its files: try again in a moment.",
    "MASTERDOWN": "It is a replica that lost its primary: name the primary.",
    "READONLY": "It is a replica: name the primary.",
    "CLUSTERDOWN": "Bring the missing nodes of the cluster back.",
    "TRYAGAIN": "A slot is moving between nodes: try again in a moment.",
    "BUSY": "A script has been running for long: try again, or run SCRIPT KILL.",
    "MISCONF": "It cannot write to its disk: make room, then try again.",
    "NOREPLICAS": "Too few replicas follow it: bring them back, or lower min-replicas-to-write.",
}
_CODES = _AUTHENTICATION_CODES | _UNAVAILABLE_CODES.keys() | {"OOM"}
_UNREACHABLE = (redis_errors.ConnectionError, redis_errors.TimeoutError, OSError)


def _origin(error: Exception) -> Exception:
    # While connecting, redis-py wraps the server's own error in a plain ConnectionError.
    cause = error.__cause__
    if type(error) is redis_errors.ConnectionError and isinstance(cause, redis_errors.RedisError):
        return cause
    return error


def _without_secrets(text: str, url: str) -> str:
    text = mask_url(text)
    user, passwords = _credentials(url)
    for password in passwords:
        text = text.replace(password, "***")
    # A user name can be part of a word, unlike a password it is no harm to leave it there.
    return re.sub(rf"\b{re.escape(user)}\b", "***", text) if user else text


def _credentials(url: str) -> tuple[str, list[str]]:
    """Return the URL's user, and its passwords in every spelling, longest first."""
    user, _, password = url.partition("://")[2].rpartition("@")[0].partition(":")
    found = {password, *re.findall(r"[?&]\w*password=([^&\s]*)", url)}
    plain = {decode(secret) for secret in found for decode in (unquote, unquote_plus)}
    spelled = {encode(secret, safe="") for secret in plain for encode in (quote, quote_plus)}
    return unquote(user), sorted((found | plain | spelled) - {""}, key=len, reverse=True)
