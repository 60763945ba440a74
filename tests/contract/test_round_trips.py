"""How often a bot waits for the server, message by message."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator

import pytest

from bench.round_trips import counted_round_trips
from bridge import Bridge
from projections.projecting.projector import Projector

_numbers = itertools.count(1)


@pytest.fixture
async def bridge(server_url: str) -> AsyncIterator[Bridge]:
    """A bridge as it is after a while, with the read models kept by others: all trips are its own."""
    prefix = f"round-trips{next(_numbers)}"
    opened = Bridge.open(server_url, key_prefix=prefix, partition_count=1, projections=None)
    async with opened as bridge:
        await bridge.receive("telegram", 1, "hello", message_id=1)
        await Projector(bridge.log).run_until_caught_up()
        await bridge.receive("telegram", 1, "hello", message_id=2)
        yield bridge


@pytest.mark.parametrize("times_before", [1, 5])
async def test_a_returning_user_s_message_takes_two(bridge: Bridge, times_before: int) -> None:
    for number in range(times_before):
        await bridge.receive("telegram", 7, "hello", chat_id=42, message_id=number)
    with counted_round_trips() as trips:
        await bridge.receive("telegram", 7, "hello again", chat_id=42, message_id="again")
    assert (trips.count, trips.call_count) == (2, 2)


async def test_so_does_a_user_s_very_first_message(bridge: Bridge) -> None:
    with counted_round_trips() as trips:
        received = await bridge.receive("telegram", 7, "hello", chat_id=42, message_id=1)
    assert received is not None
    assert received.session.version == 1
    assert trips.count == 2


async def test_a_message_delivered_again_takes_no_more(bridge: Bridge) -> None:
    await bridge.receive("telegram", 7, "hello", message_id=1)
    with counted_round_trips() as trips:
        received = await bridge.receive("telegram", 7, "hello", message_id=1)
    assert received is not None
    assert received.result.duplicate
    assert trips.count == 2


async def test_the_first_message_after_an_end_takes_one_more(bridge: Bridge) -> None:
    ended = await bridge.sessions.resolve("telegram", 7)
    await bridge.sessions.complete(ended)
    with counted_round_trips() as trips:
        received = await bridge.receive("telegram", 7, "hello again", message_id=1)
    assert received is not None
    assert received.session.id != ended.id
    assert trips.count == 3
