from __future__ import annotations

import pytest

from eventlog.clients import connect_in_bulk, new_client
from eventlog.cluster_slots import SlotMap, slot_of
from eventlog.errors import ConfigurationError
from eventlog.server_address import cluster_address, parse_address
from eventlog.settings import Settings, load_settings
from eventlog.url_secrets import without_secrets


@pytest.mark.parametrize(
    ("url", "places", "service", "one_server"),
    [
        ("redis+cluster://a", [("a", 6379)], "", "redis://a:6379"),
        ("redis+cluster://a:1,b:2/0", [("a", 1), ("b", 2)], "", "redis://a:1/0"),
        (
            "rediss+cluster://u:p%40w@[::1]:7,b/?ssl_ca_certs=ca.pem",
            [("::1", 7), ("b", 6379)],
            "",
            "rediss://u:p%40w@[::1]:7?ssl_ca_certs=ca.pem",
        ),
        ("redis+sentinel://a,b:5/main", [("a", 26379), ("b", 5)], "main", "redis://a:26379"),
        (
            "rediss+sentinel://:pw@a/my%20main/3",
            [("a", 26379)],
            "my main",
            "rediss://:pw@a:26379/3",
        ),
    ],
)
def test_what_an_address_says(url, places, service, one_server):
    found = parse_address(url)
    assert found is not None
    assert list(found.places) == places
    assert (found.service, found.one_server) == (service, one_server)


@pytest.mark.parametrize("url", ["redis://a:1/0", "rediss://a", "unix:///run/x.sock", "nonsense"])
def test_one_server_is_left_to_others(url):
    assert parse_address(url) is None


@pytest.mark.parametrize(
    "url",
    [
        "redis+cluster://",
        "redis+cluster://a,,b",
        "redis+cluster://a:b",
        "redis+cluster://a/main",
        "redis+sentinel://a",
        "redis+sentinel://a/main/x",
        "redis+sentinel://a/main/1/2",
        "redis+cluster://:s3c/ret@a",
    ],
)
def test_what_is_no_address(url):
    with pytest.raises(ValueError, match=r"no host|no service"):
        parse_address(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://a",
        "redis+cluster://:s3c/ret@a:b",
        "redis+sentinel://:s3cret@a/main/x?sentinel_password=s3ntinel",
    ],
)
def test_settings_refuse_it_without_its_secrets(url):
    with pytest.raises(ConfigurationError, match="'url'") as caught:
        load_settings(url=url, environment={})
    assert "s3c" not in str(caught.value)
    assert "s3n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["redis+cluster://:s3cret@a", "redis+sentinel://:s3cret@a/main"])
async def test_an_option_that_nobody_knows_is_refused(kind):
    url = f"{kind}?colour=1"
    with pytest.raises(ConfigurationError, match="cannot be used") as caught:
        new_client(Settings(url=url), url)
    with pytest.raises(ConfigurationError, match="cannot be used"):
        connect_in_bulk(Settings(url=url), url, "k")
    assert "s3cret" not in str(caught.value)


def test_settings_show_no_secret():
    url = "redis+sentinel://bot:s3cret@a,b/main?sentinel_password=s3ntinel&sentinel_username=guard"
    shown = repr(load_settings(url=url, environment={}))
    assert "redis+sentinel://***@a,b/main" in shown
    for secret in ("s3cret", "s3ntinel", "guard", "bot:"):
        assert secret not in shown
        assert secret not in without_secrets(f"cannot reach {url}", url)


@pytest.mark.parametrize(
    ("url", "is_local"),
    [("redis+cluster://localhost:1,127.0.0.1:2", True), ("redis+sentinel://localhost,db/m", False)],
)
def test_whether_it_is_on_this_machine(url, is_local):
    assert bool(load_settings(url=url, environment={}).leaves_after_s) is is_local


def test_a_plain_address_becomes_the_clusters():
    assert cluster_address("rediss://u:p@h:1/0?x=y") == "rediss+cluster://u:p@h:1/0?x=y"


@pytest.mark.parametrize(
    "command",
    [
        ["GET", "{l:0}:k"],
        ["EVALSHA", "digest", 2, "{l:0}:k", "{l:0}:m", b"argument"],
        ["XREAD", "COUNT", 5, "BLOCK", 10, "STREAMS", "{l:0}:s", "0"],
        ["XREADGROUP", "GROUP", "streams", "streams", "COUNT", 1, "STREAMS", "{l:0}:s", ">"],
        ["XINFO", "GROUPS", "{l:0}:s"],
        ["XINFO GROUPS", "{l:0}:s"],
        ["XGROUP", "CREATE", "{l:0}:s", "g", "0"],
        ["MEMORY USAGE", b"{l:0}:s", "SAMPLES", 0],
        ["OBJECT", "ENCODING", "{l:0}:s"],
    ],
)
def test_the_slot_of_a_command(command):
    assert slot_of(command) == slot_of(["GET", "{l:0}"])


@pytest.mark.parametrize(
    "command",
    [["PING"], ["INFO", "all"], ["CONFIG GET", "save"], ["SCRIPT LOAD", "x"], ["EVAL", "x", 0, "a"],
     ["WAIT", 1, 0], ["TIME"]],
)  # fmt: skip
def test_commands_without_a_key(command):
    assert slot_of(command) is None


def test_who_serves_what():
    reply = [
        [0, 9, [b"a", 1, b"id"], [b"b", 2, b"id", []]],
        [10, 16383, [b"", 3, b"id"], [None, 4, b"id"]],
    ]
    found = SlotMap.of_reply(reply, ("asked", 9))
    assert found.primaries == (("a", 1), ("asked", 3))
    assert found.nodes == (("a", 1), ("b", 2), ("asked", 3), ("asked", 4))
    assert (found.served[9], found.served[10]) == (("a", 1), ("asked", 3))
    assert found.is_whole
