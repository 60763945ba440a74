"""`fetch.lua`, `adopt.lua`, `heal.lua` and `read_lines.lua` on a real server, through their caller."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from consumers.group_partition import GroupPartition, hand_consumer, line_consumer
from consumers.record import NO_RECORD
from consumers.registration import register
from consumers.settlement import Settlement
from eventlog import START, EntryId, EventLog, RawEntry
from eventlog.errors import Fenced, GroupMissing, HistoryGap
from tests.logs import conversation_in, message
from tests.support import turns
from tests.working import lease_on

P = 2


async def fill(log: EventLog, count: int) -> list[RawEntry]:
    """Append to one conversation of the partition; return all of its entries."""
    await log.append([message(conversation_in(log, P), n) for n in range(count)])
    return await log.read_raw(P, START, 1_000_000)


@pytest.fixture
async def place(log: EventLog) -> GroupPartition:
    await register(log, "g")
    return await lease_on(log, "g", P)


async def pending(log: EventLog, consumer: str) -> list[EntryId]:
    stream = log.keys.stream(P)
    found = await log.client.xpending_range(stream, "g", "-", "+", 1000, consumer)
    return [EntryId.parse(each["message_id"]) for each in found]


async def in_hand(log: EventLog) -> list[EntryId]:
    return await pending(log, hand_consumer(P))


def ids(entries: Iterable[RawEntry]) -> list[EntryId]:
    return [entry.id for entry in entries]


def lined_up(number: int, entries: list[RawEntry], conversation: str) -> Settlement:
    settlement = Settlement(number)
    settlement.line_up(conversation, back=ids(entries), wait_ms=0)
    return settlement


class TestFetching:
    async def test_new_entries_in_order_once(self, log, place):
        entries = await fill(log, 10)
        assert await place.fetch(4) == entries[:4]
        assert await place.fetch(100) == entries[4:]
        assert await place.fetch(100) == []
        assert list(place.hand) == ids(entries)
        assert place.hand.seen == entries[-1].id
        assert await in_hand(log) == ids(entries)

    async def test_what_was_delivered_but_not_seen_comes_first(self, log, place):
        entries = await fill(log, 10)
        await place.fetch(6)
        successor = await lease_on(log, "g", P)
        assert await successor.fetch_again(4) == entries[:4]
        assert await successor.fetch_again(4) == entries[4:6]
        assert await successor.fetch_again(4) == []
        assert await successor.fetch(100) == entries[6:]

    async def test_a_reply_that_was_lost_is_given_again(self, log, place):
        entries = await fill(log, 5)
        await place.fetch(2)
        seen = place.hand.seen
        await place.fetch(2)
        place.hand.seen = seen
        assert await place.fetch(100) == entries[2:4]
        assert await place.fetch(100) == entries[4:]

    async def test_whoever_lost_the_lease_gets_nothing(self, log, place):
        await fill(log, 5)
        successor = await lease_on(log, "g", P)
        with pytest.raises(Fenced, match="partition 2 of group 'g'"):
            await place.fetch(10)
        assert await in_hand(log) == []
        assert len(await successor.fetch(10)) == 5

    async def test_a_server_that_lost_what_was_delivered(self, log, place):
        entries = await fill(log, 5)
        await place.fetch(5)
        await log.client.hset(log.keys.work(P, "g"), "delivered", str(entries[2].id))
        with pytest.raises(HistoryGap, match="the server lost"):
            await place.fetch(10)

    async def test_an_entry_that_was_trimmed_while_in_hand(self, log, place):
        await fill(log, 5)
        await place.fetch(3)
        await log.client.xtrim(log.keys.stream(P), maxlen=3, approximate=False)
        successor = await lease_on(log, "g", P)
        with pytest.raises(HistoryGap, match="trimmed before group 'g' had handled it"):
            await successor.fetch_again(10)

    async def test_waiting_ends_with_the_first_entry(self, log, place):
        waiting = asyncio.create_task(place.news())
        await turns(3)
        await fill(log, 1)
        await asyncio.wait_for(waiting, 0.9)

    async def test_a_group_that_is_not_registered(self, log):
        place = await lease_on(log, "stranger", P)
        with pytest.raises(GroupMissing, match="was retired"):
            await place.make_sure()

    async def test_a_group_whose_place_was_deleted(self, log, place):
        await log.client.delete(log.keys.work(P, "g"))
        with pytest.raises(HistoryGap, match="no longer knows how far"):
            await place.make_sure()


class TestForeignNames:
    async def read_as(self, log: EventLog, name: str, count: int) -> None:
        await log.client.xreadgroup("g", name, {log.keys.stream(P): ">"}, count)

    async def names(self, log: EventLog) -> set[str]:
        found = await log.client.xinfo_consumers(log.keys.stream(P), "g")
        return {each["name"].decode() for each in found}

    @pytest.mark.parametrize("before", [0, 2])
    async def test_what_others_had_delivered_is_taken_over_and_their_names_go(
        self, log, place, before
    ):
        entries = await fill(log, 10)
        if before:
            await place.fetch(before)
        await self.read_as(log, "one", 3)
        await self.read_as(log, "two", 2)
        successor = await lease_on(log, "g", P)
        await successor.make_sure()
        assert await in_hand(log) == ids(entries[: before + 5])
        assert not await self.names(log) & {"one", "two"}
        assert await successor.fetch_again(100) == entries[: before + 5]
        assert await successor.fetch_again(100) == []
        assert await successor.fetch(100) == entries[before + 5 :]

    async def test_many_more_than_go_in_one_step(self, log, place):
        await fill(log, 2500)
        await self.read_as(log, "one", 2400)
        await place.make_sure()
        assert len(await log.client.xpending_range(
            log.keys.stream(P), "g", "-", "+", 9999, hand_consumer(P))) == 2400  # fmt: skip
        assert "one" not in await self.names(log)

    async def test_one_who_reads_beside_the_owner_takes_nothing_away(self, log, place):
        entries = await fill(log, 6)
        await place.fetch(2)
        await self.read_as(log, "one", 4)
        assert await place.fetch(100) == entries[2:]
        assert await in_hand(log) == ids(entries)

    async def test_and_none_of_what_it_took_is_behind_what_came_later(self, log, place):
        entries = await fill(log, 6)
        await place.fetch(2)
        await self.read_as(log, "one", 2)
        later = await place.fetch(100)
        found = [*later]
        while page := await place.fetch(100):
            found += page
        successor = await lease_on(log, "g", P)
        await successor.make_sure()
        again = []
        while page := await successor.fetch_again(100):
            again += page
        assert ids(again) == ids(entries)
        assert ids(found) in (ids(entries[2:]), ids(entries[4:]))

    async def test_a_fenced_owner_takes_nothing_over(self, log, place):
        await fill(log, 3)
        await self.read_as(log, "one", 3)
        await lease_on(log, "g", P)
        with pytest.raises(Fenced):
            await place.make_sure()
        assert "one" in await self.names(log)


class TestLostGroup:
    async def destroy(self, log: EventLog) -> None:
        await log.client.xgroup_destroy(log.keys.stream(P), "g")

    async def test_what_was_in_hand_is_in_hand_again(self, log, place):
        entries = await fill(log, 10)
        await place.fetch(6)
        settlement = Settlement(1)
        for n in (1, 3):
            settlement.pass_over(entries[n].id)
            place.hand.pop(entries[n].id)
        await place.settle(settlement)
        await place.fetch(2)
        await self.destroy(log)
        assert await place.fetch(1) == entries[8:9]
        in_hand_now = [entries[n].id for n in (0, 2, 4, 5, 6, 7, 8)]
        assert await in_hand(log) == in_hand_now

    async def test_what_waits_in_lines_waits_again(self, log, place):
        entries = await fill(log, 2300)
        chat = conversation_in(log, P)
        await place.fetch(2200)
        place.hand.clear()
        await place.settle(lined_up(1, entries[:2200], chat))
        await self.destroy(log)
        successor = await lease_on(log, "g", P)
        await successor.make_sure()
        assert await in_hand(log) == []
        counts = await log.client.xpending(log.keys.stream(P), "g")
        assert counts["pending"] == 2200
        assert await successor.fetch_again(1) == []
        assert (await successor.fetch(1))[0] == entries[2200]

    async def test_a_settlement_finds_it_lost(self, log, place):
        entries = await fill(log, 4)
        await place.fetch(4)
        await self.destroy(log)
        settlement = Settlement(1)
        settlement.pass_over(entries[0].id)
        place.hand.pop(entries[0].id)
        assert await place.settle(settlement) is None
        assert await in_hand(log) == ids(entries[1:])

    async def test_one_that_began_now_has_nothing_of_before(self, log):
        await fill(log, 5)
        await register(log, "late", "now")
        place = await lease_on(log, "late", P)
        await log.client.xgroup_destroy(log.keys.stream(P), "late")
        await place.make_sure()
        assert (await log.client.xpending(log.keys.stream(P), "late"))["pending"] == 0
        await fill(log, 1)
        assert await place.fetch_again(10) == []
        assert [entry.id.n for entry in await place.fetch(10)] == [6]

    async def test_healing_twice_is_healing_once(self, log, place):
        entries = await fill(log, 4)
        await place.fetch(4)
        await self.destroy(log)
        settlement = Settlement(1)
        settlement.pass_over(entries[0].id)
        place.hand.pop(entries[0].id)
        await asyncio.gather(place.settle(settlement), place.fetch(10), place._heal())
        assert await in_hand(log) == ids(entries[1:])

    async def test_a_fenced_owner_makes_no_group(self, log, place):
        await fill(log, 3)
        await lease_on(log, "g", P)
        await self.destroy(log)
        with pytest.raises(Fenced):
            await place.make_sure()
        assert await log.client.xinfo_groups(log.keys.stream(P)) == []

    async def test_what_was_never_delivered_and_is_gone_is_told(self, log, place):
        await fill(log, 10)
        await place.fetch(3)
        await self.destroy(log)
        await log.client.xtrim(log.keys.stream(P), maxlen=4, approximate=False)
        with pytest.raises(HistoryGap, match="4 to 6 are gone"):
            await place.fetch(1)


class TestLines:
    async def test_the_first_entries_of_each_with_their_records(self, log, place):
        entries = await fill(log, 5)
        chat = conversation_in(log, P)
        await place.fetch(5)
        settlement = lined_up(1, entries, chat)
        settlement.remember(entries[0].id, NO_RECORD.begun())
        await place.settle(settlement)
        [none, page] = await place.read_lines(["nobody", chat], 2)
        assert none == []
        assert page == [(entries[0], NO_RECORD.begun()), (entries[1], NO_RECORD)]
        assert await place.lines() == [(chat, 0, 5)]
        assert await place.line_firsts([chat, "nobody"]) == {chat: entries[0].id}
        assert await pending(log, line_consumer(P)) == ids(entries)

    async def test_an_entry_of_a_line_that_was_trimmed(self, log, place):
        entries = await fill(log, 5)
        chat = conversation_in(log, P)
        await place.fetch(5)
        await place.settle(lined_up(1, entries, chat))
        await log.client.xtrim(log.keys.stream(P), maxlen=3, approximate=False)
        with pytest.raises(HistoryGap, match="trimmed before"):
            await place.read_lines([chat], 1)

    async def test_nothing_is_asked_about_nothing(self, place):
        assert await place.records([]) == []
        assert await place.line_firsts([]) == {}
        assert await place.lines() == []
