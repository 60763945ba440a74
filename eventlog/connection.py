"""What a server can do, and its faults in our words."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import redis.asyncio
from redis import exceptions as redis_errors

from eventlog.clients import new_client
from eventlog.cluster import ClusterClient, nodes_of
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
from eventlog.sentinel import SentinelClient
from eventlog.server_address import cluster_address
from eventlog.settings import Settings, mask_url
from eventlog.url_secrets import without_secrets

MINIMUM_VERSIONS = {"redis": (7, 0), "valkey": (8, 0)}


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
    """Return what the server is, once it is known to be fit to keep a log; of a cluster, every primary.

    Raises UnsupportedServer, UnsafeEviction, AuthenticationFailed and LogUnavailable.
    """
    nodes = [client]
    with _explained(client):
        nodes = await nodes_of(client)
    return combined([await _check_node(node) for node in nodes])


async def _check_node(client: redis.asyncio.Redis) -> ServerInfo:
    with _explained(client):
        info: dict[str, Any] = await client.info()
        if "maxmemory_policy" not in info:
            # CONFIG is often forbidden, INFO rarely: it is asked only for what INFO left out.
            with contextlib.suppress(redis_errors.ResponseError):
                reply = await client.config_get("maxmemory-policy")
                info["maxmemory_policy"] = reply["maxmemory-policy"]
    server = parse_server(info)
    require_fit(server)
    return server


@contextlib.contextmanager
def _explained(client: redis.asyncio.Redis) -> Iterator[None]:
    """Raise what a server says to whoever looks at it first in our words."""
    try:
        yield
    except (redis_errors.RedisError, OSError) as error:
        known = translate(error, _address(client))
        # Redis 7.0 says the second of a cluster's node.
        if known is None and any(
            text in str(error) for text in ("DB index", "SELECT is not allowed")
        ):
            raise ConfigurationError(
                f"{_address(client)} has no such database.", remedy="Give `db`, or the url's /N."
            ) from None
        if known is None and "cluster support disabled" in str(error):
            raise ConfigurationError(
                f"{_address(client)} is not a node of a cluster.",
                remedy="Name a single server as redis://host:port.",
            ) from None
        raise known or error from None


def _address(client: redis.asyncio.Redis) -> str:
    if isinstance(client, SentinelClient):
        return f"the primary {client.service!r} of the sentinels"
    where = client.get_connection_kwargs()
    if "path" in where:
        return f"unix://{where['path']}"
    is_tls = issubclass(client.connection_pool.connection_class, redis.asyncio.SSLConnection)
    scheme = "rediss" if is_tls else "redis"
    return f"{scheme}://{where.get('host', 'localhost')}:{where.get('port', 6379)}"


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


def combined(servers: Sequence[ServerInfo]) -> ServerInfo:
    """Return what holds for all of a cluster's nodes. Pure."""
    first = servers[0]
    policies = [server.eviction_policy for server in servers]
    limits = [server.max_memory_bytes for server in servers if server.max_memory_bytes]
    return first._replace(
        version=min(server.version for server in servers),
        is_appendonly=all(server.is_appendonly for server in servers),
        has_waitaof=all(server.has_waitaof for server in servers),
        eviction_policy="unknown" if "unknown" in policies else policies[0],
        max_memory_bytes=min(limits, default=0),
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
    place = without_secrets(url, url)
    error = _origin(error)
    code = getattr(error, "status_code", None) or str(error).partition(" ")[0]
    reason = without_secrets(f"{code} {error}" if code in _CODES else str(error), url)
    reason = " ".join(reason.split()).rstrip(".") or type(error).__name__
    is_denied = code == "NOPERM" or any(words in reason for words in _DENIED_IN_SCRIPT)
    is_unknown = code in _AUTHENTICATION_CODES or any(words in reason for words in _UNKNOWN_TO_IT)
    if is_denied or is_unknown or isinstance(error, _AUTHENTICATION):
        remedy = (
            "`eventlog acl` prints what each kind of program has to be allowed."
            if is_denied
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
_DENIED_IN_SCRIPT = ("ACL failure in script", "The user executing the script can't")
"""What servers say, without a code, of a command in a script; the latter is Redis 7.0."""
_UNKNOWN_TO_IT = ("unauthenticated multibulk length", "unauthenticated bulk length")
"""What Redis says to a long command of somebody who has not logged in, before it looks at it."""
_AUTHENTICATION_CODES = frozenset({"NOAUTH", "WRONGPASS", "NOPERM"})
_UNAVAILABLE_CODES = {
    "LOADING": "It is reading its files: try again in a moment.",
    "MASTERDOWN": "It is a replica that lost its primary: name the primary.",
    "READONLY": "It is a replica: name the primary; after a failover, try again in a moment.",
    "CLUSTERDOWN": "Bring the missing nodes of the cluster back.",
    "TRYAGAIN": "A slot is moving between nodes: try again in a moment.",
    "MOVED": "The cluster's nodes do not agree on who serves a slot: try again in a moment.",
    "ASK": "A slot is moving between nodes: try again in a moment.",
    "UNBLOCKED": "The server is not the primary any more: try again in a moment.",
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


class Connected(NamedTuple):
    """A server, or several that keep a log together, once they are known to be fit."""

    url: str
    """Where they are, and as what: a cluster is named as one. It may hold a password."""
    client: redis.asyncio.Redis
    info: ServerInfo


async def connect(settings: Settings, url: str) -> Connected:
    """Return what answers at `url`, with a client in the event loop that is to use it.

    A `redis://` URL of a node of a cluster leads to the cluster. Raises as `check_server` does.
    """
    client = new_client(settings, url)
    try:
        info = await check_server(client)
        if info.is_cluster and not isinstance(client, ClusterClient):
            url = _as_cluster(url)
            await client.aclose()
            client = new_client(settings, url)
            info = await check_server(client)
    except BaseException:
        await client.aclose()
        raise
    return Connected(url, client, info)


def _as_cluster(url: str) -> str:
    if url.startswith("unix:"):
        raise ConfigurationError(
            f"{without_secrets(url, url)} is a node of a cluster.",
            remedy="Name the cluster as redis+cluster://host:port: its nodes are found by TCP.",
        )
    return cluster_address(url)
