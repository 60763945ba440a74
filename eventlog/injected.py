"""A client of yours, taken as the address of a server.

A log needs replies as bytes, no command sent twice and time-outs that fit its own, and it blocks
connections for as long as it likes. So it takes of a client only where the server is and who asks,
and connects by itself: yours is neither changed, nor used, nor closed.
"""

from __future__ import annotations

import enum
from typing import Any
from urllib.parse import quote, urlencode

import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel
from redis.asyncio import connection as asynchronous
from redis.credentials import UsernamePasswordCredentialProvider

from eventlog.errors import ConfigurationError

AnyClient = redis.Redis | redis.asyncio.Redis | redis.RedisCluster | redis.asyncio.RedisCluster

_SENTINEL_POOLS = (
    redis.sentinel.SentinelConnectionPool,
    redis.asyncio.sentinel.SentinelConnectionPool,
)
_TLS_CONNECTIONS = (redis.SSLConnection, asynchronous.SSLConnection)

_SCHEMES: dict[type[Any], str] = {
    redis.Connection: "redis",
    redis.SSLConnection: "rediss",
    redis.UnixDomainSocketConnection: "unix",
    asynchronous.Connection: "redis",
    asynchronous.SSLConnection: "rediss",
    asynchronous.UnixDomainSocketConnection: "unix",
}
_REMEDY = "Give its address as `url` instead, or a plain `redis.Redis` or `redis.asyncio.Redis`."


def url_of(client: AnyClient, *, instead_of: str | None = None) -> str:
    """Return the URL that leads where the client's connections go, credentials and TLS included.

    Raises ConfigurationError for what no URL can say, and where a url was given as well.
    """
    if instead_of is not None:
        raise ConfigurationError("both a url and a client were given.", remedy="Give one of them.")
    if isinstance(client, redis.RedisCluster | redis.asyncio.RedisCluster):
        return _url_of_cluster(client)
    pool = getattr(client, "connection_pool", None)
    if isinstance(pool, _SENTINEL_POOLS):
        return _url_of_sentinels(pool)
    scheme = _SCHEMES.get(getattr(pool, "connection_class", type(None)))
    if pool is None or scheme is None:
        kind = type(client if pool is None else pool).__name__
        raise ConfigurationError(f"a {kind} cannot be used as `client`.", remedy=_REMEDY)
    options: dict[str, Any] = pool.connection_kwargs
    query = _query(options, is_tls=scheme == "rediss")
    db = int(options.get("db") or 0)
    if scheme == "unix":
        place = quote(str(options.get("path", "")))
        query["db"] = str(db)
    else:
        host, port = str(options.get("host", "localhost")), int(options.get("port", 6379))
        place = f"{_shown((host, port))}/{db}"
    return _url(scheme, options, place, query)


def _url_of_cluster(client: Any) -> str:
    """Return the URL of a cluster, by the nodes that its client was given."""
    nodes: Any = (
        getattr(client, "startup_nodes", None) or client.nodes_manager.startup_nodes.values()
    )
    places = ",".join(_shown((node.host, int(node.port))) for node in nodes)
    options = dict(getattr(client, "connection_kwargs", None) or client.get_connection_kwargs())
    kind = options.get("connection_class")
    is_tls = bool(options.get("ssl")) or _SCHEMES.get(kind or type(None)) == "rediss"
    scheme = "rediss+cluster" if is_tls else "redis+cluster"
    return _url(scheme, options, places, _query(options, is_tls=is_tls))


def _url_of_sentinels(pool: Any) -> str:
    """Return the URL of the primary that sentinels name."""
    if not pool.is_master:
        raise ConfigurationError("a client of replicas cannot be used as `client`.", remedy=_REMEDY)
    asked = [
        sentinel.connection_pool.connection_kwargs for sentinel in pool.sentinel_manager.sentinels
    ]
    places = ",".join(_shown((each["host"], int(each["port"]))) for each in asked)
    options: dict[str, Any] = pool.connection_kwargs
    is_tls = issubclass(pool.connection_class, _TLS_CONNECTIONS)
    query = _query(options, is_tls=is_tls)
    user, password = _credentials(asked[0])
    given = {"sentinel_username": user, "sentinel_password": password}
    query.update({name: value for name, value in given.items() if value})
    service, db = quote(str(pool.service_name), safe=""), int(options.get("db") or 0)
    scheme = "rediss+sentinel" if is_tls else "redis+sentinel"
    return _url(scheme, options, f"{places}/{service}/{db}", query)


def _url(scheme: str, options: dict[str, Any], place: str, query: dict[str, str]) -> str:
    user, password = _credentials(options)
    login = f"{quote(user, safe='')}:{quote(password, safe='')}@" if user or password else ""
    return f"{scheme}://{login}{place}" + (f"?{urlencode(query)}" if query else "")


def _query(options: dict[str, Any], *, is_tls: bool) -> dict[str, str]:
    query = _tls(options) if is_tls else {}
    if options.get("client_name"):
        query["client_name"] = options["client_name"]
    return query


def _shown(place: tuple[str, int]) -> str:
    host, port = place
    return f"{f'[{host}]' if ':' in host else quote(host, safe='')}:{port}"


def _credentials(options: dict[str, Any]) -> tuple[str, str]:
    user: Any
    password: Any
    provider = options.get("credential_provider")
    if isinstance(provider, UsernamePasswordCredentialProvider):
        user, password = provider.username, provider.password
    elif provider is not None or options.get("redis_connect_func") is not None:
        raise ConfigurationError(
            "a client that gets its credentials from a function cannot be used.", remedy=_REMEDY
        )
    else:
        user, password = options.get("username"), options.get("password")
    return _text(user), _text(password)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")


def _tls(options: dict[str, Any]) -> dict[str, str]:
    """Return the TLS options as a URL has them."""
    given = {k: v for k, v in options.items() if k.startswith("ssl_") and v not in (None, [])}
    # The blocking client's OCSP options have no counterpart; off is what they are without.
    given = {k: v for k, v in given.items() if v is not False or k == "ssl_check_hostname"}
    found = {}
    for name, value in given.items():
        if name == "ssl_cert_reqs" and isinstance(value, enum.Enum):
            found[name] = value.name.removeprefix("CERT_").lower()
        elif isinstance(value, bool | int | str) and not name.startswith("ssl_validate_ocsp"):
            found[name] = str(int(value)) if isinstance(value, enum.Enum) else str(value)
        else:
            raise ConfigurationError(
                f"a client with the option {name} cannot be used.", remedy=_REMEDY
            )
    return found
