"""Protean: its broker on Redis Streams. Its durable event store needs Postgres (Message DB)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from protean import Domain

from bench.peers.peer import Kind, Peer, Place, Stopwatch, Way
from eventlog import MessageReceived

STREAM = "messages"
GROUP = "workers"


def broker(place: Place) -> tuple[Any, Any]:
    """Return a domain and its broker."""
    domain = Domain(
        name="bench",
        config={"brokers": {"default": {"provider": "redis", "URI": place.url}}},
    )
    domain.init(traverse=False)
    with domain.domain_context():
        return domain, domain.brokers["default"]


def publish(domain: Any, found: Any, messages: Sequence[MessageReceived]) -> None:
    """Publish all, one after the other."""
    with domain.domain_context():
        for message in messages:
            found.publish(STREAM, msgspec.to_builtins(message))


async def one_by_one(place: Place, messages: Sequence[MessageReceived], watch: Stopwatch) -> None:
    """`broker.publish`, one after the other."""
    domain, found = broker(place)
    with watch.running():
        publish(domain, found, messages)


async def handle(place: Place, messages: Sequence[MessageReceived], watch: Stopwatch) -> None:
    """`broker.get_next`, then `ack`, one after the other."""
    domain, found = broker(place)
    found._ensure_group(GROUP, STREAM)  # noqa: SLF001 - groups begin at the end, and it has no other way
    publish(domain, found, messages)
    count = 0
    with domain.domain_context(), watch.running():
        while following := found.get_next(STREAM, GROUP):
            msgspec.convert(following[1], MessageReceived)
            found.ack(STREAM, following[0], GROUP)
            count += 1
    assert count == len(messages), count


PEER = Peer(
    "Protean",
    ("protean",),
    "repeats are published again; no expected version on Redis; no atomic apply there",
    {
        Kind.ONE: Way("broker.publish", one_by_one, 0.25),
        Kind.WORK: Way("broker.get_next, ack", handle, 0.1),
    },
)
