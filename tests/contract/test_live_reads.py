"""Live reads: what was appended a moment ago is in them, whoever projects meanwhile, or nobody."""

from __future__ import annotations

import random

import pytest

from eventlog.errors import InvalidCursor, InvalidQuery
from eventlog.log import EventLog
from eventlog.vocabulary import MessageReceived, SessionStarted
from projections.projecting.projector import Projector
from projections.storing.build import Build
from projections.storing.redis_models import RedisModels
from projections.storing.store import (
    DocumentsReply,
    DocumentsRequest,
)
from projections.views.history import History
from projections.views.sessions import SESSIONS, Sessions
from tests.projecting import chats_of, oracle, random_events, read_out


async def test_own_writes_are_read_with_no_projector_and_stored_reads_wait_for_one(
    log: EventLog,
) -> None:
    events = random_events(random.Random(3), 300)
    await log.append([*events])
    assert await read_out(log, chats_of(events), "live") == oracle(events)
    before = await read_out(log, chats_of(events), "stored")
    assert (before["sessions"], before["history"], before["totals"]) == ({}, {}, {})
    await Projector(log).run_until_caught_up()
    assert await read_out(log, chats_of(events), "stored") == oracle(events)
    assert await read_out(log, chats_of(events), "live") == oracle(events)


class Overtaken(RedisModels):
    """Read models that a projector brings up to date between two steps of a live read."""

    def __init__(self, log: EventLog, partition: int) -> None:
        super().__init__(log)
        self._log_read = log
        self._watched = partition
        self.steps = 0

    async def read_documents(self, partition: int, request: DocumentsRequest) -> DocumentsReply:
        reply = await super().read_documents(partition, request)
        self.steps += partition == self._watched
        if partition == self._watched and self.steps == 1:
            await Projector(self._log_read).run_until_caught_up()
        return reply


async def test_a_live_read_that_a_projector_overtakes_folds_nothing_twice(log: EventLog) -> None:
    started = [SessionStarted(conversation="c", session=f"s{n}") for n in range(5)]
    messages = [MessageReceived(conversation="c", session=f"s{n % 5}", text="") for n in range(15)]
    await log.append([*started, *messages])
    models = Overtaken(log, log.partition_of("c"))
    page = await Sessions(log, models).list(conversation="c", limit=10)
    assert models.steps == 3
    assert sorted(s.id for s in page.items) == [f"s{n}" for n in range(5)]
    assert [s.message_count for s in page.items] == [3] * 5


async def test_facets_of_a_live_read_that_is_overtaken_count_each_document_once(
    log: EventLog,
) -> None:
    await log.append([SessionStarted(conversation="c", session=f"s{n}") for n in range(5)])
    models = Overtaken(log, log.partition_of("c"))
    assert (await Sessions(log, models).counts())["active"] == 5
    assert models.steps == 3


class SwappedBack(RedisModels):
    """Read models of which a build that has nothing yet is swapped in between two steps."""

    def __init__(self, log: EventLog, partition: int) -> None:
        super().__init__(log)
        self._watched = partition
        self._steps = 0

    async def read_documents(self, partition: int, request: DocumentsRequest) -> DocumentsReply:
        reply = await super().read_documents(partition, request)
        self._steps += partition == self._watched
        if partition == self._watched and self._steps == 1:
            empty = await self.begin(partition, Build(SESSIONS.name, SESSIONS.version, "empty"))
            await self.swap({partition: empty})
        return reply


async def test_a_live_read_misses_nothing_where_a_build_that_is_behind_is_swapped_in(
    log: EventLog,
) -> None:
    await log.append([SessionStarted(conversation="c", session=f"s{n}") for n in range(5)])
    await Projector(log).run_until_caught_up()
    await log.append(MessageReceived(conversation="c", session="s0", text=""))
    models = SwappedBack(log, log.partition_of("c"))
    page = await Sessions(log, models).list(conversation="c", limit=10)
    assert {s.id: s.message_count for s in page.items} == {"s0": 1} | {
        f"s{n}": 0 for n in (1, 2, 3, 4)
    }


async def test_a_session_is_found_without_its_conversation(log: EventLog) -> None:
    await log.append([SessionStarted(conversation=f"c{n}", session=f"s{n}") for n in range(9)])
    sessions = Sessions(log)
    for n in range(9):
        found = await sessions.get(f"s{n}")
        assert found
        assert found.conversation == f"c{n}"
    assert await sessions.get("nobody") is None
    assert await sessions.get("s1", conversation="c2-of-another-partition") in (None, found)


async def test_bad_questions_are_typed_errors(log: EventLog) -> None:
    sessions = Sessions(log)
    for cursor in ("!", "AAAA", "WzFd", "é"):
        with pytest.raises(InvalidCursor):
            await sessions.list(cursor=cursor)
    with pytest.raises(InvalidQuery):
        await sessions.list(limit=0)
    with pytest.raises(InvalidQuery):
        await History(log).last("c", 0)
