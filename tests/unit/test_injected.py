"""The address that a client of yours stands for."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
import redis
import redis.asyncio
import redis.sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import parse_url
from redis.asyncio.sentinel import Sentinel
from redis.credentials import CredentialProvider, UsernamePasswordCredentialProvider

from eventlog import EventLog
from eventlog.errors import ConfigurationError
from eventlog.injected import url_of

CLASSES = [redis.Redis, redis.asyncio.Redis]
DEFAULTS = {"host": "localhost", "port": 6379, "db": 0}


@pytest.mark.parametrize("make", CLASSES)
@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, {}),
        ({"host": "db.local", "port": 7000, "db": 3}, {"host": "db.local", "port": 7000, "db": 3}),
        ({"host": "::1"}, {"host": "::1"}),
        ({"password": "p:/@?#% é"}, {"password": "p:/@?#% é"}),
        ({"username": "a:b", "password": "c"}, {"username": "a:b", "password": "c"}),
        (
            {"credential_provider": UsernamePasswordCredentialProvider("u", "p")},
            {"username": "u", "password": "p"},
        ),
        ({"client_name": "bot"}, {"client_name": "bot"}),
        ({"decode_responses": True, "socket_timeout": 99, "health_check_interval": 1}, {}),
    ],
)
def test_it_leads_to_the_same_server(make: Any, given: dict[str, Any], found: dict[str, Any]):
    assert parse_url(url_of(make(**given))) == {**DEFAULTS, **found}


@pytest.mark.parametrize("make", CLASSES)
def test_a_unix_socket(make: Any):
    client = make(unix_socket_path="/run/a b?.sock", db=2, password="x")
    parsed = dict(parse_url(url_of(client)))
    assert parsed.pop("connection_class") is redis.asyncio.UnixDomainSocketConnection
    assert parsed == {"path": "/run/a b?.sock", "db": 2, "password": "x"}


@pytest.mark.parametrize("make", CLASSES)
def test_tls(make: Any):
    client = make(
        ssl=True,
        ssl_cert_reqs=ssl.CERT_NONE,
        ssl_ca_certs="/etc/ca b.pem",
        ssl_check_hostname=False,
        ssl_min_version=ssl.TLSVersion.TLSv1_2,
    )
    parsed = dict(parse_url(url_of(client)))
    made = parsed.pop("connection_class")(**parsed)
    assert type(made) is redis.asyncio.SSLConnection
    assert parsed["ssl_cert_reqs"] == "none"
    assert parsed["ssl_ca_certs"] == "/etc/ca b.pem"
    assert parsed["ssl_check_hostname"] is False
    assert parsed["ssl_min_version"] == ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("make", CLASSES)
def test_a_client_made_from_a_url(make: Any):
    url = "rediss://bot:s3cret@db:6380/4?ssl_ca_certs=ca.pem"
    parsed = dict(parse_url(url_of(make.from_url(url))))
    assert {k: v for k, v in parsed.items() if v is not None} == dict(parse_url(url))


def test_a_client_of_sentinels():
    sentinel = Sentinel([("a", 1), ("b", 2)], sentinel_kwargs={"password": "s3ntinel"})
    for made in (
        sentinel.master_for("main", username="u", password="p@", db=3),
        redis.sentinel.Sentinel(
            [("a", 1), ("b", 2)], sentinel_kwargs={"password": "s3ntinel"}
        ).master_for("main", username="u", password="p@", db=3),
    ):
        found = url_of(made)
        assert found == "redis+sentinel://u:p%40@a:1,b:2/main/3?sentinel_password=s3ntinel"
    in_tls = sentinel.master_for("main", ssl=True, ssl_ca_certs="ca.pem")
    assert url_of(in_tls).startswith("rediss+sentinel://a:1,b:2/main/0?ssl_ca_certs=ca.pem")


def test_a_client_of_a_cluster():
    nodes = [ClusterNode("10.0.0.1", 7000), ClusterNode("::1", 7001)]
    made = redis.asyncio.RedisCluster(startup_nodes=nodes, username="u", password="p")
    assert url_of(made) == "redis+cluster://u:p@10.0.0.1:7000,[::1]:7001"
    in_tls = redis.asyncio.RedisCluster(startup_nodes=nodes[:1], ssl=True)
    assert url_of(in_tls).startswith("rediss+cluster://10.0.0.1:7000?")


class Tokens(CredentialProvider):
    def get_credentials(self) -> tuple[str, str]:
        return "u", "p"


class Special(redis.asyncio.Connection):
    """Not ours to know."""


@pytest.mark.parametrize(
    "client",
    [
        Sentinel([("localhost", 26379)]).slave_for("m", password="s3cret"),
        redis.asyncio.Redis(credential_provider=Tokens()),
        redis.asyncio.Redis.from_pool(redis.asyncio.ConnectionPool(connection_class=Special)),
        redis.Redis(ssl=True, ssl_validate_ocsp=True),
        "redis://localhost",
        None.__class__,
    ],
)
def test_what_cannot_be_taken_over_is_refused(client: Any):
    with pytest.raises(ConfigurationError, match="Give its address as `url`") as caught:
        EventLog.open(client=client)
    assert "s3cret" not in str(caught.value)


def test_a_url_beside_it_is_refused():
    with pytest.raises(ConfigurationError, match="both"):
        EventLog.open("redis://localhost", client=redis.asyncio.Redis())


def test_its_credentials_are_masked_and_the_settings_own_are_not_sent(monkeypatch):
    monkeypatch.setenv("REDIS_PASSWORD", "for another")
    log = EventLog.open(client=redis.asyncio.Redis(password="s3cret"))
    assert log.settings.password is None
    assert "s3cret" not in repr(log.settings)
