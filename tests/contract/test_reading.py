"""Reading and tailing, on the in-memory store and on a real server alike (`any_log`)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from eventlog import (
    START,
    Cursor,
    EventLog,
    UnknownEvent,
)
from eventlog import log as log_module
from eventlog.batch import Batch
from eventlog.errors import (
    InvalidCursor,
    InvalidEvent,
    LogNotOpen,
)
from tests.logs import conversation_in, message
from tests.support import turns


class TestRead:
    @pytest.fixture
    async def filled(self, any_log: EventLog, monkeypatch: pytest.MonkeyPatch) -> EventLog:
        """Two conversations of one partition in turn, read in pages smaller than the gaps."""
        monkeypatch.setattr(log_module, "READ_PAGE_ENTRIES", 3)
        a, b = (conversation_in(any_log, 2, n) for n in range(2))
        for n in range(20):
            await any_log.append([message(a, n)] * (n % 5 == 0) + [message(b, n)])
        return any_log

    @pytest.mark.parametrize("reverse", [False, True])
    @pytest.mark.parametrize("limit", [0, 1, 2, 7, 100])
    @pytest.mark.parametrize(("low", "high"), [(0, None), (5, None), (0, 20), (7, 12), (12, 7)])
    async def test_a_partition_between_two_entries(self, filled, reverse, limit, low, high):
        everything = await filled.read(partition=2)
        assert len(everything) == 24
        after = everything[low - 1].id if low else None
        before = everything[high].id if high is not None else None
        expected = everything[low:high]
        found = await filled.read(
            partition=2, after=after, before=before, limit=limit, reverse=reverse
        )
        assert found == (expected[::-1] if reverse else expected)[:limit]

    @pytest.mark.parametrize("reverse", [False, True])
    @pytest.mark.parametrize("number", [0, 1, 2])
    async def test_a_conversation_is_picked_out(self, filled, reverse, number):
        name = conversation_in(filled, 2, number)
        everything = [e for e in await filled.read(partition=2) if e.event.conversation == name]
        assert len(everything) == [4, 20, 0][number]
        ordered = everything[::-1] if reverse else everything
        for limit in (1, 3, 4, 100):
            found = await filled.read(conversation=name, limit=limit, reverse=reverse)
            assert found == ordered[:limit]
        paged: list[Any] = []
        while page := await filled.read(
            conversation=name,
            limit=3,
            reverse=reverse,
            **({"before" if reverse else "after": paged[-1].id} if paged else {}),
        ):
            paged += page
        assert paged == ordered

    async def test_nothing_is_before_the_start(self, filled):
        assert await filled.read(partition=2, before=START) == []
        assert await filled.read(partition=2, before=START, reverse=True) == []
        assert await filled.read(partition=2, after=(await filled.heads())[2]) == []
        assert await filled.read(partition=0) == []

    async def test_it_needs_one_place(self, any_log):
        for place in ({}, {"conversation": "c", "partition": 1}):
            with pytest.raises(InvalidEvent):
                await any_log.read(**place)

    @pytest.mark.parametrize("partition", [-1, 4])
    async def test_there_are_no_other_partitions(self, any_log, partition):
        with pytest.raises(InvalidEvent, match=f"no partition {partition}"):
            await any_log.read(partition=partition)

    async def test_raw_is_after_one_and_up_to_another(self, filled):
        entries = await filled.read(partition=2)
        raw = await filled.read_raw(2, entries[3].id, 100, until=entries[9].id)
        assert [(e.id, e.raw) for e in raw] == [(e.id, e.raw) for e in entries[4:10]]
        assert len(await filled.read_raw(2, START, 7, until=entries[9].id)) == 7
        assert await filled.read_raw(2, entries[9].id, 7, until=entries[3].id) == []

    async def test_an_entry_that_holds_no_event_is_shown_and_passed(self, any_log):
        await any_log.append(message(conversation_in(any_log, 1)))
        await any_log._store.append(1, Batch(["nonsense"], ["x"], []), "memory")
        await any_log.append(message(conversation_in(any_log, 1)))
        entries = await any_log.read(partition=1)
        assert [e.event.type for e in entries] == [
            "message.received",
            "undecodable",
            "message.received",
        ]
        assert isinstance(entries[1].event, UnknownEvent)
        assert entries[1].event.extra["raw"] == "nonsense"
        assert entries[1].raw == b"nonsense"


class TestTail:
    async def test_from_the_start_then_what_comes(self, any_log):
        await any_log.append([message(f"chat:{n}", n) for n in range(8)])
        tail = await any_log.tail("start")
        seen = [await anext(tail) for _ in range(8)]
        assert [e.id for e in seen] == sorted(e.id for e in seen)
        waiting = asyncio.create_task(anext(tail))
        result = await any_log.append(message("late"))
        entry = await waiting
        assert (entry.partition, entry.id) == (result.partition, result.id)

    async def test_from_now_on(self, any_log):
        await any_log.append([message(f"chat:{n}") for n in range(8)])
        tail = await any_log.tail()
        await any_log.append(message("new", "first"))
        assert (await anext(tail)).event.text == "first"

    async def test_from_now_on_in_an_empty_log(self, any_log):
        tail = await any_log.tail()
        await any_log.append(message("c", "first"))
        assert (await anext(tail)).event.text == "first"

    async def test_it_resumes_after_every_single_entry(self, any_log):
        await any_log.append([message(f"chat:{n}", n) for n in range(30)])
        tail = await any_log.tail("start")
        everything = [(await anext(tail)).id for _ in range(30)]
        cursor: str = "start"
        found = []
        for _ in range(30):
            one = await any_log.tail(cursor)
            found.append((await anext(one)).id)
            cursor = str(one.cursor)
        assert found == everything
        assert cursor == str(tail.cursor) == ",".join(map(str, await any_log.heads()))

    async def test_it_misses_and_repeats_nothing_while_others_append(self, any_log):
        async def bot(name: str) -> None:
            for n in range(25):
                await any_log.append([message(name, f"{n}.{i}") for i in range(8)])

        async def follow() -> list[Any]:
            tail = await any_log.tail("start")
            return [await anext(tail) for _ in range(1000)]

        seen, *_ = await asyncio.gather(follow(), *(bot(f"chat:{n}") for n in range(5)))
        for partition in range(4):
            ns = [e.id.n for e in seen if e.partition == partition]
            assert ns == list(range(1, len(ns) + 1))
        assert len({e.event.id for e in seen}) == 1000

    async def test_a_cursor_s_own_copy_is_not_moved(self, any_log):
        await any_log.append(message("c"))
        start = Cursor.start(4)
        tail = await any_log.tail(start)
        await anext(tail)
        assert start == Cursor.start(4)
        assert tail.cursor != start

    @pytest.mark.parametrize(
        "cursor", ["", "nonsense", "0-0", "0-0,0-0,0-0", Cursor.start(5), Cursor({7: START})]
    )
    async def test_a_cursor_of_something_else_is_refused(self, any_log, cursor):
        with pytest.raises(InvalidCursor):
            await any_log.tail(cursor)

    async def test_poison_does_not_stop_it(self, any_log):
        await any_log._store.append(0, Batch(["[]"], ["x"], []), "memory")
        await any_log.append(message(conversation_in(any_log, 0)))
        tail = await any_log.tail("start")
        assert [(await anext(tail)).event.type for _ in range(2)] == [
            "undecodable",
            "message.received",
        ]

    async def test_closing_the_log_ends_it(self, any_log):
        tail = await any_log.tail()
        waiting = asyncio.create_task(anext(tail))
        await turns()
        await any_log.close()
        with pytest.raises(LogNotOpen):
            await waiting
        with pytest.raises(LogNotOpen):
            await anext(tail)
