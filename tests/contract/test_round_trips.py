"""How often a bot waits for the server, message by message."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from bench.round_trips import counted_round_trips
from bridge import Bridge
from bridge.bridge import Received
from projections.projecting.projector import Projector
from tests.conftest import IS_CLUSTER
from tests.leaving import program_of, world_on

_numbers = itertools.count(1)

MOST = 2
"""Round trips of `resolve` and `received` together."""


@pytest.fixture(params=["projected", "never projected"])
async def bridge(request: pytest.FixtureRequest, server_url: str) -> AsyncIterator[Bridge]:
    """A bridge without a projector of its own, so that all trips are its calls'.

    Its server knows the scripts, and its log has or has no read models.
    """
    settings = {"key_prefix": f"round-trips{next(_numbers)}", "projections": None}
    async with Bridge.open(server_url, partition_count=4, **settings) as warming:
        await warming.receive("telegram", 1, "hello", message_id=1)
        if request.param == "projected":
            await Projector(warming.log).run_until_caught_up()
    async with Bridge.open(server_url, **settings) as bridge:
        await asyncio.gather(*(bridge.ping() for _ in range(4)))  # connections, which greet first
        yield bridge


@pytest.fixture
async def other(bridge: Bridge, server_url: str) -> AsyncIterator[Bridge]:
    """Another program on the same log."""
    prefix = bridge.log.settings.key_prefix
    async with Bridge.open(server_url, key_prefix=prefix, projections=None) as other:
        yield other


async def counted(bridge: Bridge, message: int | str, **arguments: object) -> Received:
    with counted_round_trips() as trips:
        received = await bridge.receive("telegram", 7, "hello", message_id=message, **arguments)
    assert trips.count == MOST
    assert received is not None
    return received


@pytest.mark.skipif(IS_CLUSTER, reason="each node is sent a script when it is first called there")
async def test_a_program_s_first_question_of_a_partition_takes_no_more(bridge: Bridge) -> None:
    places = {bridge.log.partition_of(f"telegram:{chat}") for chat in range(40)}
    assert len(places) == bridge.log.partition_count
    for chat in range(40):
        await counted(bridge, 1, chat_id=chat)


@pytest.mark.parametrize("times_before", [1, 5])
async def test_a_returning_user_s_message(bridge: Bridge, other: Bridge, times_before: int) -> None:
    for number in range(times_before):
        await other.receive("telegram", 7, "hello", chat_id=42, message_id=number)
    first = await counted(bridge, "again", chat_id=42)
    assert (await counted(bridge, "once more", chat_id=42)).session.id == first.session.id


async def test_a_user_s_very_first_message(bridge: Bridge) -> None:
    assert (await counted(bridge, 1, chat_id=42)).session.version == 1


async def test_a_message_delivered_again(bridge: Bridge) -> None:
    await bridge.receive("telegram", 7, "hello", message_id=1)
    assert (await counted(bridge, 1)).result.duplicate


async def complete(bridge: Bridge) -> None:
    session = await bridge.sessions.resolve("telegram", 7)
    await bridge.sessions.complete(session)


async def fail(bridge: Bridge) -> None:
    session = await bridge.sessions.resolve("telegram", 7)
    await bridge.sessions.fail(session, "the agent is gone")


async def clear(bridge: Bridge) -> None:
    await bridge.sessions.resolve("telegram", 7)
    await bridge.conversations.clear("telegram:7")


async def compact_and_complete(bridge: Bridge) -> None:
    await bridge.sessions.resolve("telegram", 7)
    await bridge.conversations.compact("telegram:7")
    await complete(bridge)


@pytest.mark.parametrize("end", [complete, fail, clear, compact_and_complete])
@pytest.mark.parametrize("by_another_program", [False, True])
@pytest.mark.parametrize("is_projected_since", [False, True])
async def test_the_first_message_after_an_end(
    bridge: Bridge,
    other: Bridge,
    end: Callable[[Bridge], Awaitable[None]],
    by_another_program: bool,
    is_projected_since: bool,
) -> None:
    before = await bridge.sessions.resolve("telegram", 7)
    await end(other if by_another_program else bridge)
    if is_projected_since:
        await Projector(bridge.log).run_until_caught_up()
        # Whoever had seen no read models looks for them once in each partition.
        for user in range(100, 120):
            await bridge.sessions.resolve("telegram", user)
    after = await counted(bridge, 1)
    assert after.session.id != before.id
    assert after.session.status == "active"
    assert (await other.sessions.resolve("telegram", 7)).id == after.session.id


@pytest.mark.parametrize("has_ended", [False, True])
async def test_the_first_message_of_a_chat_that_left_the_read_models(
    server_url: str, tmp_path: Path, has_ended: bool
) -> None:
    async with world_on(server_url, tmp_path) as world, program_of(world) as one:
        before = await one.sessions.resolve("telegram", 7)
        if has_ended:
            await one.sessions.complete(before)
        else:
            await one.sessions.transition(before, "dormant")
        world.later()
        await world.let_go()
        assert not (await world.stored()).keys() & {"sessions", "conversations"}
        settings = {"key_prefix": tmp_path.name, "data_dir": str(tmp_path), "projections": None}
        async with Bridge.open(server_url, **settings) as another:
            after = await counted(another, 1)
            assert (after.session.id == before.id) != has_ended
            session = await another.sessions.get(after.session.id)
            assert session is not None
            assert session.status == "active"
