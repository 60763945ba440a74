"""`settle.lua` on a real server: all of a settlement, or nothing."""

from __future__ import annotations

import pytest

from consumers.context import Context, Result
from consumers.group_partition import GroupPartition, hand_consumer, line_consumer
from consumers.ordering import Item
from consumers.record import NO_RECORD
from consumers.registration import register
from consumers.settlement import Settlement
from eventlog import START, Event, EventLog, RawEntry, SessionTouched
from eventlog.errors import EventLogError, Fenced
from tests.logs import conversation_in, message
from tests.working import lease_on

P = 2
HOUR_MS = 3_600_000


@pytest.fixture
async def place(log: EventLog) -> GroupPartition:
    await register(log, "g")
    chat = conversation_in(log, P)
    await log.append([message(chat, n) for n in range(6)])
    made = await lease_on(log, "g", P)
    await made.fetch(6)
    return made


@pytest.fixture
def chat(log: EventLog) -> str:
    return conversation_in(log, P)


@pytest.fixture
async def entries(log: EventLog, place: GroupPartition) -> list[RawEntry]:
    assert place.hand, "they are delivered"
    return await log.read_raw(P, START, 6)


def done(
    number: int, log: EventLog, entry: RawEntry, *results: Event, in_line: bool = False
) -> Settlement:
    """Return a settlement of one entry with its results."""
    event = log.codec.decode(entry.raw)
    settlement = Settlement(number)
    context = Context(log, "g", P, entry.id, event, 1)
    for each in results:
        context.append(each)
    record = NO_RECORD if in_line else None
    settlement.acknowledge(
        Item(entry.id, event, None, record=record, in_line=in_line), context.results
    )
    return settlement


async def pending(log: EventLog, consumer: str) -> list[int]:
    found = await log.client.xpending_range(log.keys.stream(P), "g", "-", "+", 100, consumer)
    return [int(each["message_id"].split(b"-")[1]) for each in found]


async def in_hand(log: EventLog) -> list[int]:
    return await pending(log, hand_consumer(P))


async def waiting(log: EventLog) -> list[int]:
    return await pending(log, line_consumer(P))


async def due(log: EventLog) -> list[int]:
    """Return when lines are due, in ms of the server's clock."""
    found = await log.client.zrange(log.keys.blocked(P, "g"), 0, -1, withscores=True)
    return [int(score) for _, score in found]


async def lengths(place: GroupPartition) -> dict[str, int]:
    return {conversation: length for conversation, _, length in await place.lines()}


async def server_ms(log: EventLog) -> int:
    seconds, microseconds = await log.client.time()
    return seconds * 1000 + microseconds // 1000


async def texts(log: EventLog) -> list[str]:
    return [log.codec.decode(raw.raw).text for raw in (await log.read_raw(P, START, 100))[6:]]


async def state(log: EventLog, chat: str) -> object:
    """Return all that a settlement may change."""
    keys = log.keys
    return (
        await log.client.xpending(keys.stream(P), "g"),
        await log.client.xlen(keys.stream(P)),
        await log.client.hgetall(keys.work(P, "g")),
        await log.client.hgetall(keys.attempts(P, "g")),
        await log.client.hgetall(keys.versions(P)),
        await log.client.zrange(keys.blocked(P, "g"), 0, -1, withscores=True),
        await log.client.lrange(keys.line(P, "g", chat), 0, -1),
    )


class TestSettled:
    async def test_results_and_acknowledgement_are_one_step(self, log, place, entries, chat):
        settlement = done(1, log, entries[0], message(chat, "a"), message(chat, "b"))
        assert await place.settle(settlement) is None
        assert await texts(log) == ["a", "b"]
        assert await in_hand(log) == [2, 3, 4, 5, 6]

    async def test_records_are_kept_and_forgotten(self, log, place, entries):
        settlement = Settlement(1)
        settlement.remember(entries[0].id, NO_RECORD.begun())
        await place.settle(settlement)
        ids = [entry.id for entry in entries[:2]]
        assert await place.records(ids) == [NO_RECORD.begun(), NO_RECORD]
        await place.settle(done(2, log, entries[0], in_line=True))
        assert await place.records(ids) == [NO_RECORD, NO_RECORD]

    async def test_lines_grow_shrink_and_end(self, log, place, entries, chat):
        first = Settlement(1)
        first.line_up(chat, back=[entries[2].id, entries[3].id], wait_ms=HOUR_MS)
        await place.settle(first)
        [due_ms] = await due(log)
        assert await lengths(place) == {chat: 2}
        second = Settlement(2)
        second.line_up(chat, front=[entries[0].id, entries[1].id], back=[entries[4].id])
        await place.settle(second)
        assert await lengths(place) == {chat: 5}
        assert await due(log) == [due_ms], "who joins the line does not put it off"
        line = await log.client.lrange(log.keys.line(P, "g", chat), 0, -1)
        assert [each.decode() for each in line] == [str(entry.id) for entry in entries[:5]]
        assert await waiting(log) == [1, 2, 3, 4, 5]
        assert await in_hand(log) == [6]
        for n in range(5):
            await place.settle(done(3 + n, log, entries[n], in_line=True))
        assert await place.lines() == []
        assert await waiting(log) == []
        assert not await log.client.exists(log.keys.line(P, "g", chat))

    async def test_a_line_without_a_time_is_due_at_once(self, place, entries, chat):
        settlement = Settlement(1)
        settlement.line_up(chat, back=[entries[5].id])
        await place.settle(settlement)
        assert await place.lines() == [(chat, 0, 1)]

    async def test_a_wait_begins_when_it_is_written_by_the_server_s_clock(
        self, log, place, entries, chat
    ):
        settlement = Settlement(1)
        settlement.line_up(chat, back=[entries[5].id], wait_ms=HOUR_MS)
        before_ms = await server_ms(log)
        await place.settle(settlement)
        written_ms = await due(log)
        assert before_ms <= written_ms[0] - HOUR_MS <= await server_ms(log)
        [(_, wait_ms, _)] = await place.lines()
        assert 0 < wait_ms <= HOUR_MS

    async def test_a_line_that_was_due_long_ago_is_due_now(self, log, place, entries, chat):
        settlement = Settlement(1)
        settlement.line_up(chat, back=[entries[5].id], wait_ms=HOUR_MS)
        await place.settle(settlement)
        await log.client.zadd(log.keys.blocked(P, "g"), {chat: 77})
        assert await place.lines() == [(chat, 0, 1)]

    async def test_thousands_at_once(self, log, place, chat):
        await log.append([message(chat, n) for n in range(9000)])
        found = []
        while page := await place.fetch(5000):
            found += page
        settlement = Settlement(1)
        settlement.line_up(chat, back=[entry.id for entry in found[:4500]], wait_ms=0)
        for entry in found[:4500]:
            settlement.remember(entry.id, NO_RECORD.begun())
        for entry in found[4500:]:
            settlement.pass_over(entry.id)
        await place.settle(settlement)
        assert await place.lines() == [(chat, 0, 4500)]
        assert await log.client.hlen(log.keys.attempts(P, "g")) == 4500
        assert (await log.client.xpending(log.keys.stream(P), "g"))["pending"] == 4506

    async def test_conversations_of_any_name(self, place, entries):
        settlement = Settlement(1)
        names = ["{x}", "a:b", "ключ", "\0", " ", "*[?]"]
        for name, entry in zip(names, entries, strict=True):
            settlement.line_up(name, back=[entry.id], wait_ms=0)
        await place.settle(settlement)
        assert sorted(await place.lines()) == sorted((name, 0, 1) for name in names)
        firsts = await place.line_firsts(names)
        assert firsts == {name: e.id for name, e in zip(names, entries, strict=True)}


class TestRepeated:
    async def test_a_settlement_whose_reply_was_lost_changes_nothing_more(
        self, log, place, entries, chat
    ):
        settlement = done(1, log, entries[0], message(chat, "a"), SessionTouched(
            conversation=chat, session="s"))  # fmt: skip
        settlement.line_up(chat, front=[entries[1].id], back=[entries[2].id], wait_ms=9)
        settlement.remember(entries[1].id, NO_RECORD.begun())
        await place.settle(settlement)
        after = await state(log, chat)
        for _ in range(2):
            assert await place.settle(settlement) is None
            assert await state(log, chat) == after

    async def test_however_late_it_comes(self, log, place, entries, chat):
        first = Settlement(1)
        first.line_up(chat, back=[entries[0].id], wait_ms=9)
        await place.settle(first)
        await place.settle(done(2, log, entries[0], message(chat, "a"), in_line=True))
        after = await state(log, chat)
        assert await place.settle(first) is None
        assert await state(log, chat) == after

    async def test_the_next_owner_begins_its_numbers_anew(self, log, place, entries):
        await place.settle(done(50, log, entries[0]))
        successor = await lease_on(log, "g", P)
        await successor.settle(done(1, log, entries[1]))
        assert await in_hand(log) == [3, 4, 5, 6]

    async def test_results_that_are_in_the_log_already_are_not_doubled(
        self, log, place, entries, chat
    ):
        await log.append(message(chat, "a", id="mine"))
        await place.settle(done(1, log, entries[0], message(chat, "a", id="mine")))
        assert await texts(log) == ["a"]
        assert await in_hand(log) == [2, 3, 4, 5, 6]


class TestRefused:
    async def test_whoever_lost_the_lease_writes_nothing(self, log, place, entries, chat):
        await lease_on(log, "g", P)
        before = await state(log, chat)
        settlement = done(1, log, entries[0], message(chat, "a"))
        settlement.line_up(chat, back=[entries[1].id])
        with pytest.raises(Fenced):
            await place.settle(settlement)
        assert await state(log, chat) == before

    async def test_nor_does_one_that_is_repeated_after_the_lease_went(self, log, place, entries):
        settlement = done(1, log, entries[0])
        await place.settle(settlement)
        await lease_on(log, "g", P)
        with pytest.raises(Fenced):
            await place.settle(settlement)

    async def test_a_version_that_is_not_as_expected(self, log, place, entries, chat):
        await log.append(SessionTouched(conversation=chat, session="s"))
        before = await state(log, chat)
        touched = SessionTouched(conversation=chat, session="s")
        settlement = done(1, log, entries[0], touched)
        settlement.expected = [("session:s", 0)]
        assert await place.settle(settlement) == ("session:s", 1)
        assert await state(log, chat) == before
        again = done(2, log, entries[0], touched)
        again.expected = [("session:s", 1)]
        assert await place.settle(again) is None
        assert await in_hand(log) == [2, 3, 4, 5, 6]

    async def test_a_log_without_its_head(self, log, place, entries, chat):
        head = await log.client.getdel(log.keys.head(P))
        before = await state(log, chat)
        settlement = done(1, log, entries[0], message(chat, "a"))
        with pytest.raises(EventLogError, match="backup"):
            await place.settle(settlement)
        assert await state(log, chat) == before
        await log.client.set(log.keys.head(P), head)
        await place.settle(settlement)
        assert await texts(log) == ["a"]


async def test_a_group_that_is_gone_is_made_again_first(log, place, entries, chat):
    await log.client.xgroup_destroy(log.keys.stream(P), "g")
    place.hand.pop(entries[2].id)
    await place.settle(done(1, log, entries[2], message(chat, "a")))
    assert await texts(log) == ["a"]
    assert await in_hand(log) == [1, 2, 4, 5, 6]


async def test_what_is_told_of_the_hand_is_what_it_is_then(log, place, entries):
    for entry in (entries[1], entries[4]):
        place.hand.pop(entry.id)
    await place.settle(done(1, log, entries[1]))
    told = await log.client.hget(log.keys.work(P, "g"), "hand")
    assert told.decode() == place.hand.text()


def test_a_result_knows_its_partition(log):
    event = message(conversation_in(log, 3), "x")
    context = Context(log, "g", P, START, event, 1)
    context.append(event)
    assert [each.partition for each in context.results] == [3]
    assert isinstance(context.results[0], Result)
