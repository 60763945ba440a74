"""A bridge while the server is away, in several event loops, and over a client of yours."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import signal
import time
from pathlib import Path
from urllib.parse import unquote

import pytest
import redis.asyncio

from bridge import Bridge
from eventlog.errors import LogNotOpen, LogUnavailable
from projections import Activity, History
from tests.conftest import IS_CLUSTER
from tests.support import RawServer, eventually

_numbers = itertools.count(1)


async def texts(bridge: Bridge, conversation: str) -> list[str]:
    return [entry.event.text for entry in (await bridge.history(conversation)).entries]  # type: ignore[attr-defined]


async def test_a_bot_answers_on_and_nothing_it_recorded_is_lost(tmp_path: Path):
    with RawServer(tmp_path, appendonly="yes", appendfsync="always") as server:
        async with Bridge.open(
            server.url, spool_dir=str(tmp_path / "spool"), max_retries=0, partition_count=2
        ) as bridge:
            await bridge.received("telegram:7", "before")
            server.kill()
            for number in range(5):
                result = await bridge.received("telegram:7", f"in {number}", message_id=number)
                assert result.is_spooled
                assert (await bridge.sent("telegram:7", f"out {number}")).is_spooled
                bridge.log_event("tick", {"number": number})
            server.start()
            await eventually(lambda: not bridge.log.is_degraded)
            said = [f"{way} {n}" for n in range(5) for way in ("in", "out")]
            assert await texts(bridge, "telegram:7") == ["before", *said]
            redelivered = await bridge.received("telegram:7", "in 3", message_id=3)
            assert redelivered.duplicate


@pytest.mark.parametrize("is_mapped_from_elsewhere", [False, True])
async def test_what_is_said_in_a_sleeping_session_is_not_lost(
    tmp_path: Path, is_mapped_from_elsewhere: bool
):
    with RawServer(tmp_path, appendonly="yes", appendfsync="always") as server:
        async with Bridge.open(
            server.url, spool_dir=str(tmp_path / "spool"), max_retries=0, partition_count=2
        ) as bridge:
            if is_mapped_from_elsewhere:
                job = await bridge.sessions.start("discord:8")
                await bridge.conversations.set("telegram:7", job.id)
            session = await bridge.sessions.resolve("telegram", 7)
            await bridge.sessions.transition(session.id, "dormant")
            asleep = await bridge.sessions.resolve("telegram", 7)
            assert asleep.status == "dormant"
            server.kill()
            assert (await bridge.received(asleep, "are you there?", message_id=1)).is_spooled
            server.start()
            await eventually(lambda: not bridge.log.is_degraded)
            assert await texts(bridge, "telegram:7") == ["are you there?"]
            found = await bridge.sessions.get(session.id)
            assert found is not None
            assert found.status == ("dormant" if is_mapped_from_elsewhere else "active")


async def test_closing_that_is_cancelled_lets_go_of_the_log_nevertheless(server_url: str):
    bridge = await Bridge.open(server_url, key_prefix=f"closing{next(_numbers)}")
    closing = asyncio.create_task(bridge.close())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.gather(closing, return_exceptions=True)
    with pytest.raises(LogNotOpen):
        await bridge.log.heads()


async def test_opened_while_the_server_is_away_it_projects_when_it_is_back(tmp_path: Path):
    server = RawServer(tmp_path)
    async with Bridge.open(
        server.url, spool_dir=str(tmp_path / "spool"), partition_count=2
    ) as bridge:
        assert (await bridge.received("telegram:7", "hello")).is_spooled
        for call in (
            lambda: bridge.sessions.list(),
            lambda: bridge.history("telegram:7"),
            lambda: bridge.conversations.get("telegram:7"),
            lambda: bridge.dead_letters.list(),
        ):
            with pytest.raises(LogUnavailable):
                await call()
        with server:
            await eventually(lambda: not bridge.log.is_degraded)
            assert await texts(bridge, "telegram:7") == ["hello"]
            keys = bridge.log.keys
            await eventually(
                lambda: bridge.log.client.exists(keys.shelf(bridge.log.partition_of("telegram:7")))
            )
            await bridge.close()


def test_in_one_event_loop_after_another(server_url: str):
    bridge = Bridge.open(server_url, key_prefix=f"away{next(_numbers)}", partition_count=2)

    async def first() -> None:
        await bridge
        await bridge.received("c", "first")

    async def second() -> None:
        await bridge.received("c", "second")
        assert await texts(bridge, "c") == ["first", "second"]
        await bridge.close()

    asyncio.run(first())
    asyncio.run(second())
    gc.collect()


@pytest.mark.skipif(
    IS_CLUSTER, reason="the client is of one server; test_cluster has one of a cluster"
)
async def test_over_a_client_of_yours(server_url: str):
    path = unquote(server_url.removeprefix("unix://"))
    client = redis.asyncio.Redis(unix_socket_path=path, decode_responses=True)
    async with Bridge.open(client=client, key_prefix=f"away{next(_numbers)}") as bridge:
        session = await bridge.sessions.resolve("telegram", 7)
        await bridge.received(session, "hello")
        assert await texts(bridge, session.conversation) == ["hello"]
    assert await client.ping()
    await client.aclose()


async def test_a_server_that_hangs_holds_up_one_message_and_not_each(tmp_path: Path):
    timeout_s = 0.4
    with RawServer(tmp_path, appendonly="yes", appendfsync="always") as server:
        async with Bridge.open(
            server.url,
            spool_dir=str(tmp_path / "spool"),
            command_timeout_s=timeout_s,
            partition_count=2,
        ) as bridge:
            known = await bridge.sessions.resolve("telegram", 7)
            os.kill(server.pid, signal.SIGSTOP)
            try:
                started_s = time.monotonic()
                for number in range(50):
                    session = await bridge.sessions.resolve("telegram", 7)
                    assert session.id == known.id
                    assert (await bridge.received(session, "x", message_id=number)).is_spooled
                # One resolve and one append find out; 48 that did as well would take 20 s and more.
                assert time.monotonic() - started_s < 12 * timeout_s
            finally:
                os.kill(server.pid, signal.SIGCONT)
            await eventually(lambda: not bridge.log.is_degraded, timeout_s=30)
            assert await texts(bridge, "telegram:7") == ["x"] * 50


async def test_what_could_not_be_delivered_is_kept_and_what_has_ended_does_not_come_back(
    tmp_path: Path,
):
    with RawServer(tmp_path, appendonly="yes", appendfsync="always") as server:
        async with Bridge.open(
            server.url, spool_dir=tmp_path / "spool", max_retries=0, partition_count=2
        ) as bridge:
            ended = await bridge.sessions.resolve("telegram", 7)
            await bridge.sessions.complete(ended)
            server.kill()
            for _ in range(2):  # the second is the same letter
                await bridge.persist_failed_delivery("telegram:7", "hello", letter="mine")
            made_up = await bridge.sessions.resolve("telegram", 7)
            assert made_up.id != ended.id
            server.start()
            await eventually(lambda: not bridge.log.is_degraded)
            [letter] = (await bridge.dead_letters.list()).items
            assert (letter.letter, letter.text) == ("mine", "hello")


def test_in_the_next_event_loop_events_are_recorded_and_models_kept_up(server_url: str):
    bridge = Bridge.open(server_url, key_prefix=f"next-loop{next(_numbers)}", partition_count=2)

    async def first() -> None:
        await bridge
        await bridge.received("telegram:7", "one")

    async def second() -> None:
        await bridge.received("telegram:7", "two")
        bridge.log_event("tick")

        async def is_kept_up() -> bool:
            history, events = History(bridge.log), Activity(bridge.log)
            page = await history.last("telegram:7", consistency="stored")
            totals = await events.totals(consistency="stored")
            return len(page.entries) == 2 and totals.get("bridge.event:tick") == 1

        assert await eventually(is_kept_up)
        assert bridge.dropped_event_count == 0
        await bridge.close()

    asyncio.run(first())
    asyncio.run(second())
