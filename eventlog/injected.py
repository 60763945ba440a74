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
from redis.asyncio import connection as asynchronous
from redis.credentials import UsernamePasswordCredentialProvider

from eventlog.errors import ConfigurationError

AnyClient = redis.Redis | redis.asyncio.Redis

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

    Raises ConfigurationError for a cluster's or a sentinel's client, for what no URL can say, and
    where a url was given as well.
    """
    if instead_of is not None:
        raise ConfigurationError("both a url and a client were given.", remedy="Give one of them.")
    pool = getattr(client, "connection_pool", None)
    scheme = _SCHEMES.get(getattr(pool, "connection_class", type(None)))
    if pool is None or scheme is None:
        kind = type(client if pool is None else pool).__name__
        raise ConfigurationError(f"a {kind} cannot be used as `client`.", remedy=_REMEDY)
    options: dict[str, Any] = pool.connection_kwargs
    user, password = _credentials(options)
    query = _tls(options) if scheme == "rediss" else {}
    if options.get("client_name"):
        query["client_name"] = options["client_name"]
    login = f"{quote(user, safe='')}:{quote(password, safe='')}@" if user or password else ""
    db = int(options.get("db") or 0)
    if scheme == "unix":
        place = quote(str(options.get("path", "")))
        query["db"] = str(db)
    else:
        host = str(options.get("host", "localhost"))
        host = f"[{host}]" if ":" in host else quote(host, safe="")
        place = f"{host}:{int(options.get('port', 6379))}/{db}"
    return f"{scheme}://{login}{place}" + (f"?{urlencode(query)}" if query else "")


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
