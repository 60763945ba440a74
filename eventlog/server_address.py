"""The address of several servers that keep one log: a cluster, or sentinels that name the primary.

    redis+cluster://user:password@host:port,host:port
    redis+sentinel://user:password@host:port,host:port/SERVICE/db

`rediss+…` speaks TLS. User and password are the servers'; those of the sentinels, where they want any,
are the options `sentinel_username` and `sentinel_password`.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple
from urllib.parse import unquote, urlsplit

Kind = Literal["cluster", "sentinel"]

Place = tuple[str, int]
"""Host and port."""

_DEFAULT_PORTS: dict[Kind, int] = {"cluster": 6379, "sentinel": 26379}
_LOOPBACK = ("localhost", "127.0.0.1", "::1")

SCHEMES = ("redis+cluster", "rediss+cluster", "redis+sentinel", "rediss+sentinel")


class ServerAddress(NamedTuple):
    """What such a URL says."""

    kind: Kind
    places: tuple[Place, ...]
    """Of nodes of the cluster, any of which can tell the others; or of sentinels."""
    service: str
    """What the sentinels call the primary; empty for a cluster."""
    one_server: str
    """The URL of one server with the same scheme, credentials, database and options."""

    @property
    def is_local(self) -> bool:
        """Whether all of it is on this machine."""
        return all(host in _LOOPBACK for host, _ in self.places)


def parse_address(url: str) -> ServerAddress | None:
    """Return what the URL says; None for one of a single server. Raises ValueError. Pure.

    >>> parse_address("redis+sentinel://a,b:7000/main/2").one_server
    'redis://a:26379/2'
    """
    scheme, _, kind = url.partition("://")[0].partition("+")
    if f"{scheme}+{kind}" not in SCHEMES:
        return None
    named: Kind = "cluster" if kind == "cluster" else "sentinel"
    address = urlsplit(url)
    login, at, hosts = address.netloc.rpartition("@")
    places = tuple(_place(host, _DEFAULT_PORTS[named]) for host in hosts.split(","))
    parts = address.path.strip("/").split("/") if address.path.strip("/") else []
    service = unquote(parts.pop(0)) if named == "sentinel" and parts else ""
    db = parts.pop(0) if parts else ""
    if parts or not re.fullmatch(r"\d*", db) or (named == "sentinel" and not service):
        raise ValueError("no service, or a path that says something else")
    host, port = places[0]
    shown = f"[{host}]" if ":" in host else host
    path = f"/{db}" if db else ""
    query = f"?{address.query}" if address.query else ""
    return ServerAddress(
        named, places, service, f"{scheme}://{login}{at}{shown}:{port}{path}{query}"
    )


def _place(text: str, default_port: int) -> Place:
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]+))(?::(\d+))?", text)
    if found is None:
        raise ValueError("no host and port")
    return found[1] or unquote(found[2]), int(found[3] or default_port)


def cluster_address(url: str) -> str:
    """Return the URL of the cluster that a `redis://` or `rediss://` URL names a node of. Pure.

    >>> cluster_address("redis://bot:s3cret@node/0")
    'redis+cluster://bot:s3cret@node/0'
    """
    scheme, _, rest = url.partition("://")
    return f"{scheme}+cluster://{rest}"
