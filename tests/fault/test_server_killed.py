"""`kill -9` of the embedded server in the middle of everything: the log mends itself."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from eventlog import Entry, EventLog, MessageReceived, SessionTouched
from eventlog.server_binary import find_server_binary
from tests.support import SERVER_BINARY, eventually

KILL_COUNT = 3
PER_BOT = 150
BOTS = 6


def message(conversation: str, number: int) -> MessageReceived:
    return MessageReceived(conversation=conversation, text=str(number))


def syncing_always(folder: Path) -> str:
    """Return a server that syncs before it replies.

    With `everysec` it holds writes back, two seconds at most, while its own sync to a busy disk
    takes long: an acknowledged append may then be lost with it (docs/explanation.md).
    """
    program = folder / "valkey-server"
    program.write_text(
        f'#!/bin/sh\nexec {find_server_binary(SERVER_BINARY)} "$@" --appendfsync always\n'
    )
    program.chmod(0o700)
    return str(program)


async def kill_repeatedly(log: EventLog, acknowledged: list[str]) -> int:
    """Kill the server each time another share of the work is acknowledged; return how often."""
    embedded = log._embedded
    assert embedded is not None
    killed: set[int] = set()
    for share in range(1, KILL_COUNT + 1):
        goal = share * PER_BOT * BOTS // (KILL_COUNT + 2)
        await eventually(lambda goal=goal: len(acknowledged) >= goal, timeout_s=30)
        pid = await eventually(lambda: embedded.pid)
        os.kill(pid, signal.SIGKILL)
        killed.add(pid)
    return len(killed)


async def test_nothing_acknowledged_is_lost_and_nothing_doubled(tmp_path: Path):
    acknowledged: list[str] = []

    async def bot(log: EventLog, name: str) -> None:
        for number in range(PER_BOT):
            event = message(name, number)
            await log.append(event)
            acknowledged.append(event.id)

    async def importer(log: EventLog) -> None:
        producer = await log.producer("import")
        for first in range(1, 1001, 20):
            items = [(n, message(f"file:{n % 3}", n)) for n in range(first, first + 20)]
            assert await producer.append(items) == 20
            acknowledged.extend(event.id for _, event in items)

    async def watchdog(log: EventLog) -> None:
        for version in range(30):
            touched = SessionTouched(conversation="watched", session="s")
            assert (await log.append(touched, expected_version=version)).version == version + 1
            acknowledged.append(touched.id)

    async def follow(log: EventLog, count: int) -> list[Entry]:
        tail = await log.tail("start")
        return [await anext(tail) for _ in range(count)]

    total = BOTS * PER_BOT + 1000 + 30
    binary = syncing_always(tmp_path)
    async with EventLog.open(
        data_dir=str(tmp_path), partition_count=3, server_binary=binary
    ) as log:
        killed, followed, *_ = await asyncio.gather(
            kill_repeatedly(log, acknowledged),
            follow(log, total),
            *(bot(log, f"chat:{n}") for n in range(BOTS)),
            importer(log),
            watchdog(log),
        )
        assert killed == KILL_COUNT
        assert len(acknowledged) == total

    async with EventLog.open(data_dir=str(tmp_path), server_binary=binary) as log:
        entries = [e for p in range(3) for e in await log.read(partition=p, limit=1_000_000)]
    assert sorted(e.event.id for e in entries) == sorted(acknowledged)
    assert sorted((e.partition, e.id) for e in followed) == [(e.partition, e.id) for e in entries]
    for partition in range(3):
        ns = [e.id.n for e in entries if e.partition == partition]
        assert ns == list(range(1, len(ns) + 1))
    for name in (f"chat:{n}" for n in range(BOTS)):
        texts = [e.event.text for e in entries if e.event.conversation == name]  # type: ignore[attr-defined]
        assert texts == [str(n) for n in range(PER_BOT)]


async def test_a_server_that_died_while_nobody_looked_is_back_at_the_next_call(tmp_path: Path):
    async with EventLog.open(data_dir=str(tmp_path), partition_count=1) as log:
        await log.append(message("c", 0))
        for number in range(1, 4):
            assert log._embedded is not None
            pid = log._embedded.pid
            assert pid
            os.kill(pid, signal.SIGKILL)
            assert (await log.append(message("c", number))).sequence == number + 1
        assert len(await log.read(conversation="c")) == 4
