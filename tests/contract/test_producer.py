"""Bulk producers: idempotent by position, on both stores."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from eventlog import START, Event, EventLog, MessageReceived, SessionTouched
from eventlog.batch import Batch, Outcome
from eventlog.errors import InvalidEvent, LogUnavailable, ProducerGap
from eventlog.settings import Durability
from eventlog.store import Store
from tests.support import turns

CHATS = [f"chat:{n}" for n in range(9)]


def item(position: int, conversation: str | None = None, **fields: Any) -> tuple[int, Event]:
    name = conversation or CHATS[position % len(CHATS)]
    return position, MessageReceived(conversation=name, text=str(position), **fields)


async def positions_in_log(log: EventLog) -> dict[int, list[int]]:
    """Return the positions that stand in each partition, in order, having checked the sequences."""
    found = {}
    for partition in range(log.partition_count):
        entries = await log.read(partition=partition, limit=1_000_000)
        assert [e.id.n for e in entries] == list(range(1, len(entries) + 1))
        found[partition] = [int(e.event.text) for e in entries]  # type: ignore[attr-defined]
    return found


async def assert_exactly(log: EventLog, positions: list[int]) -> None:
    """Check that each position is there once, and in order within its partition."""
    found = await positions_in_log(log)
    assert sorted(itertools.chain.from_iterable(found.values())) == sorted(positions)
    for there in found.values():
        assert there == sorted(there)


class Faulty:
    """A store whose numbered appends fail: `before` they are done, or `after`, the reply lost."""

    def __init__(self, store: Store, before: set[int] = set(), after: set[int] = set()) -> None:  # noqa: B006 - never changed
        self._store = store
        self._before, self._after = before, after
        self.batches: list[tuple[int, Batch]] = []

    async def append(self, partition: int, batch: Batch, durability: Durability) -> Outcome:
        number = len(self.batches)
        self.batches.append((partition, batch))
        if number in self._before:
            raise LogUnavailable("lost on its way.")
        outcome = await self._store.append(partition, batch, durability)
        if number in self._after:
            raise LogUnavailable("the reply was lost.")
        return outcome


class TestAppending:
    async def test_new_events_are_counted_and_in_order(self, any_log):
        producer = await any_log.producer("import:a")
        assert producer.positions == {}
        assert await producer.append([item(n) for n in range(1, 101)]) == 100
        assert await producer.append([item(n) for n in range(101, 1501)]) == 1400
        await assert_exactly(any_log, list(range(1, 1501)))
        assert producer.positions == (await any_log.producer("import:a")).positions
        assert max(producer.positions.values()) == 1500

    async def test_positions_may_be_sparse(self, any_log):
        sparse = [3, 10, 11, 500, 2**40, 2**53]
        producer = await any_log.producer("p")
        assert await producer.append([item(n) for n in sparse]) == 6
        again = await any_log.producer("p")
        assert again.positions == producer.positions
        assert await again.append([item(n) for n in sparse]) == 0
        await assert_exactly(any_log, sparse)

    async def test_nothing_to_append_is_nothing(self, any_log):
        assert await (await any_log.producer("p")).append([]) == 0

    async def test_what_the_log_has_is_skipped(self, any_log):
        await (await any_log.producer("p")).append([item(n) for n in range(1, 51)])
        later = await any_log.producer("p")
        assert await later.append([item(n) for n in range(1, 41)]) == 0
        assert await later.append([item(n) for n in range(41, 61)]) == 10
        await assert_exactly(any_log, list(range(1, 61)))

    async def test_the_log_decides_where_the_producer_knows_no_better(self, any_log):
        stale = await any_log.producer("p")
        await (await any_log.producer("p")).append([item(n) for n in range(1, 51)])
        assert await stale.append([item(n) for n in range(1, 71)]) == 20
        await assert_exactly(any_log, list(range(1, 71)))

    async def test_names_do_not_disturb_each_other(self, any_log):
        for name in ("a", "b", "é:{}"):
            producer = await any_log.producer(name)
            assert await producer.append([item(1, "c"), item(2, "c")]) == 2
        assert [e.event.text for e in await any_log.read(conversation="c")] == ["1", "2"] * 3

    async def test_it_does_not_look_at_event_ids(self, any_log):
        producer = await any_log.producer("p")
        twice = [item(1, "c", id="same"), item(2, "c", id="same")]
        assert await producer.append(twice) == 2

    async def test_versions_advance(self, any_log):
        producer = await any_log.producer("p")
        touched = SessionTouched(conversation="c", session="s")
        await producer.append([(n, touched) for n in range(1, 4)])
        result = await any_log.append(SessionTouched(conversation="c", session="s"))
        assert result.version == 4

    async def test_overlapping_calls_keep_their_order(self, any_log):
        producer = await any_log.producer("p")
        calls = [
            asyncio.create_task(producer.append([item(n) for n in range(start, start + 70)]))
            for start in range(1, 2101, 70)
        ]
        assert await asyncio.gather(*calls) == [70] * 30
        await assert_exactly(any_log, list(range(1, 2101)))


class TestRefusals:
    @pytest.mark.parametrize(
        "positions", [[0], [-1], [2, 1], [1, 1], [1, 3, 2, 4], [2**53 + 1], [0, 1]]
    )
    async def test_positions_that_do_not_grow_from_1(self, any_log, positions):
        producer = await any_log.producer("p")
        with pytest.raises(InvalidEvent, match="positions"):
            await producer.append([item(n, "c") for n in positions])
        assert await any_log.heads() == [START] * 4
        assert await producer.append([item(1, "c")]) == 1

    async def test_one_bad_event_writes_nothing_and_spends_nothing(self, any_log):
        producer = await any_log.producer("p")
        items = [item(n) for n in range(1, 1200)]
        items[900] = (901, MessageReceived(conversation="", text=""))
        with pytest.raises(InvalidEvent):
            await producer.append(items)
        assert await any_log.heads() == [START] * 4
        items[900] = item(901)
        assert await producer.append(items) == 1199

    @pytest.mark.parametrize("name", ["", " ", "a b", "a\n", "x" * 513])
    async def test_names(self, any_log, name):
        with pytest.raises(InvalidEvent, match="name"):
            await any_log.producer(name)


class TestFaults:
    async def test_the_same_batch_again_is_answered_as_the_first_time(self, any_log):
        producer = await any_log.producer("p")
        producer._store = faulty = Faulty(any_log._store)
        await producer.append([item(n) for n in range(1, 301)])
        for partition, batch in faulty.batches:
            first = await any_log._store.append(partition, batch, "memory")
            again = await any_log._store.append(partition, batch, "memory")
            assert first == again
            assert first.added == len(batch.events)  # type: ignore[union-attr]
        await assert_exactly(any_log, list(range(1, 301)))

    async def test_a_late_repetition_of_an_older_batch_adds_nothing(self, any_log):
        producer = await any_log.producer("p")
        producer._store = faulty = Faulty(any_log._store)
        for start in range(1, 200, 50):
            await producer.append([item(n) for n in range(start, start + 50)])
        for partition, batch in faulty.batches:
            await any_log._store.append(partition, batch, "memory")
        await assert_exactly(any_log, list(range(1, 201)))

    async def test_a_lost_batch_is_noticed_by_the_next(self, any_log):
        producer = await any_log.producer("p")
        await producer.append([item(1, "c")])
        producer._store = Faulty(any_log._store, before={0})
        calls = [asyncio.create_task(producer.append([item(n, "c")])) for n in range(2, 6)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(o) for o in outcomes] == [LogUnavailable, *[ProducerGap] * 3]
        gap = outcomes[1]
        assert isinstance(gap, ProducerGap)
        assert (gap.expected, gap.actual) == (2, 1)
        await assert_exactly(any_log, [1])

    @pytest.mark.parametrize("number", range(12))
    @pytest.mark.parametrize("when", ["before", "after"])
    async def test_nothing_is_lost_or_doubled_on_resuming(self, any_log, number, when):
        producer = await any_log.producer("p")
        producer._store = Faulty(any_log._store, **{when: {number}})
        calls = [
            asyncio.create_task(producer.append([item(n) for n in range(start, start + 40)]))
            for start in range(1, 200, 40)
        ]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert any(isinstance(o, LogUnavailable) for o in outcomes)
        resumed = await any_log.producer("p")
        lowest = min(resumed.positions.get(p, 0) for p in range(any_log.partition_count))
        await resumed.append([item(n) for n in range(lowest + 1, 251)])
        await assert_exactly(any_log, list(range(1, 251)))

    async def test_a_cancelled_call_is_resumed(self, any_log):
        producer = await any_log.producer("p")
        call = asyncio.create_task(producer.append([item(n) for n in range(1, 2001)]))
        await turns(4)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        resumed = await any_log.producer("p")
        await resumed.append([item(n) for n in range(1, 2101)])
        await assert_exactly(any_log, list(range(1, 2101)))

    async def test_two_at_once_under_one_name_add_each_position_once(self, any_log):
        async def send(name: str) -> None:
            producer = await any_log.producer(name)
            for start in range(1, 1001, 100):
                await producer.append([item(n) for n in range(start, start + 100)])

        await asyncio.gather(send("p"), send("p"))
        await assert_exactly(any_log, list(range(1, 1001)))
