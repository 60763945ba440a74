"""Who writes for the first time gets one session, however many programs hear of it at once."""

from __future__ import annotations

import asyncio
import itertools
import sys
from asyncio.subprocess import PIPE
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest

from bridge import Bridge
from eventlog import START, ConversationMapped, EventLog, SessionStarted
from eventlog.errors import LogUnavailable
from projections.storing.redis_models import RedisModels
from tests.contract.resolving_process import TASK_COUNT

PROCESS_COUNT = 4
USER_COUNT = 10_000
_numbers = itertools.count(1)


@pytest.fixture
async def crowded(server_url: str) -> AsyncIterator[Bridge]:
    """A bridge that keeps the read models up to date, as each bot does."""
    prefix = f"crowd{next(_numbers)}"
    async with Bridge.open(server_url, key_prefix=prefix, partition_count=16) as bridge:
        yield bridge


async def resolved_by(log: EventLog, users: Sequence[Sequence[int]]) -> list[list[str]]:
    """Return the sessions of each process's users; the processes begin together."""
    command = (sys.executable, "-m", "tests.contract.resolving_process")
    arguments = log.server_url, log.settings.key_prefix
    processes = [
        await asyncio.create_subprocess_exec(
            *command, *arguments, stdin=PIPE, stdout=PIPE, limit=1 << 24
        )
        for _ in users
    ]
    for process in processes:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
    lines = [msgspec.json.encode(list(each)) + b"\n" for each in users]
    answers = await asyncio.gather(
        *(process.communicate(line) for process, line in zip(processes, lines, strict=True))
    )
    assert [process.returncode for process in processes] == [0] * len(processes)
    return [msgspec.json.decode(said, type=list[str]) for said, _ in answers]


async def started_in(log: EventLog) -> dict[str, int]:
    """Return how often the log starts each session, and checks that it maps as often."""
    started: dict[str, int] = defaultdict(int)
    mapped_count = 0
    for partition in range(log.partition_count):
        for raw in await log.read_raw(partition, START, 1_000_000):
            event = log.codec.decode(raw.raw)
            if isinstance(event, SessionStarted):
                assert log.partition_of(event.session) == partition
                started[event.session] += 1
            mapped_count += isinstance(event, ConversationMapped)
    assert mapped_count == sum(started.values())
    return started


async def test_200_first_messages_of_one_user_in_4_processes_begin_one_session(
    crowded: Bridge,
) -> None:
    answers = await resolved_by(crowded.log, [[7] * TASK_COUNT] * PROCESS_COUNT)
    assert [len(each) for each in answers] == [TASK_COUNT] * PROCESS_COUNT
    [session] = {each for answer in answers for each in answer}
    assert await started_in(crowded.log) == {session: 1}
    assert await crowded.conversations.get("telegram:7") == session
    assert sum((await crowded.sessions.counts()).values()) == 1


async def test_10_000_users_have_10_000_sessions_whichever_process_they_met(
    crowded: Bridge,
) -> None:
    users = [
        [user for user in range(USER_COUNT) if user % PROCESS_COUNT in (n, (n + 1) % PROCESS_COUNT)]
        for n in range(PROCESS_COUNT)
    ]
    answers = await resolved_by(crowded.log, users)
    told: dict[int, list[str]] = defaultdict(list)
    for asked, answer in zip(users, answers, strict=True):
        for user, session in zip(asked, answer, strict=True):
            told[user].append(session)
    assert {len(each) for each in told.values()} == {2}
    assert {len(set(each)) for each in told.values()} == {1}
    sessions = {each for [each, _] in told.values()}
    assert len(sessions) == USER_COUNT
    assert await started_in(crowded.log) == dict.fromkeys(sessions, 1)
    assert (await crowded.sessions.counts())["active"] == USER_COUNT


async def test_a_lost_reply_does_not_make_up_a_second_session(
    crowded: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    carry_out = RedisModels.take_or_read
    lost = iter([True])

    async def lose_one(self: RedisModels, *arguments: Any) -> Any:
        reply = await carry_out(self, *arguments)
        if next(lost, False):
            raise LogUnavailable("the connection was cut")
        return reply

    monkeypatch.setattr(RedisModels, "take_or_read", lose_one)
    session = await crowded.sessions.resolve("telegram", 7)
    assert await started_in(crowded.log) == {session.id: 1}
    assert next(lost, None) is None
