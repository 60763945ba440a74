"""The log's contract, on the in-memory store and on a real server alike (`any_log`)."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from eventlog import (
    START,
    AppendResult,
    ConversationMapped,
    Cursor,
    EntryId,
    Event,
    EventLog,
    MessageReceived,
    SessionStarted,
    SessionTouched,
    SessionTransitioned,
    UnknownEvent,
)
from eventlog import log as log_module
from eventlog.batch import Batch
from eventlog.errors import (
    EmptyConversation,
    EventTooLarge,
    InvalidCursor,
    InvalidEvent,
    LogNotOpen,
    VersionConflict,
)
from tests.support import eventually, turns


def message(conversation: str, text: object = "", **fields: Any) -> MessageReceived:
    return MessageReceived(conversation=conversation, text=str(text), **fields)


def messages(conversation: str, count: int) -> list[Event]:
    return [message(conversation, n) for n in range(count)]


def touched(session: str, **fields: Any) -> SessionTouched:
    return SessionTouched(conversation="c", session=session, **fields)


def conversation_in(log: EventLog, partition: int, number: int = 0) -> str:
    """Return the number-th conversation of a partition."""
    names = (f"chat:{n}" for n in itertools.count())
    fitting = (name for name in names if log.partition_of(name) == partition)
    return next(itertools.islice(fitting, number, None))


async def all_texts(log: EventLog, conversation: str) -> list[str]:
    entries = await log.read(conversation=conversation, limit=100_000)
    return [entry.event.text for entry in entries if isinstance(entry.event, MessageReceived)]


async def assert_gapless(log: EventLog) -> int:
    """Check sequences 1, 2, … in every partition, and heads; return how many entries there are."""
    total = 0
    for partition, head in enumerate(await log.heads()):
        entries = await log.read_raw(partition, START, 1_000_000)
        assert [entry.id.n for entry in entries] == list(range(1, len(entries) + 1))
        assert [e.id for e in entries] == sorted(e.id for e in entries)
        assert head == (entries[-1].id if entries else START)
        total += len(entries)
    return total


class TestAppend:
    async def test_the_result_says_where_the_event_stands(self, any_log):
        event = message("telegram:1", "hello", metadata={"a": [1, "é", None]})
        result = await any_log.append(event)
        partition = any_log.partition_of("telegram:1")
        assert result == AppendResult(partition, result.id, None, duplicate=False)
        assert result.sequence == result.id.n == 1
        [entry] = await any_log.read(conversation="telegram:1")
        assert (entry.partition, entry.id, entry.event) == (partition, result.id, event)
        assert entry.sequence == 1
        assert entry.raw == any_log.codec.encode(event)

    async def test_a_list_over_all_partitions(self, any_log):
        events = [message(f"chat:{n % 7}", n) for n in range(100)]
        results = await any_log.append(events)
        assert [r.partition for r in results] == [
            any_log.partition_of(e.conversation) for e in events
        ]
        assert not any(r.duplicate for r in results)
        for result, event in zip(results, events, strict=True):
            before = EntryId(result.id.ms, result.id.n - 1)
            [raw] = await any_log.read_raw(result.partition, before, 1)
            assert any_log.codec.decode(raw.raw) == event
        assert await assert_gapless(any_log) == 100
        for chat in range(7):
            assert await all_texts(any_log, f"chat:{chat}") == [
                str(n) for n in range(100) if n % 7 == chat
            ]

    async def test_an_empty_list_is_nothing(self, any_log):
        assert await any_log.append([]) == []
        assert await any_log.heads() == [START] * 4

    @pytest.mark.parametrize("count", [500, 501, 1203])
    async def test_a_list_longer_than_one_step(self, any_log, count):
        results = await any_log.append(messages("c", count))
        assert [r.sequence for r in results] == list(range(1, count + 1))
        assert await all_texts(any_log, "c") == [str(n) for n in range(count)]

    async def test_a_list_heavier_than_one_step(self, any_log):
        events: list[Event] = [message("c", str(n) * 900_000) for n in range(9)]
        results = await any_log.append(events)
        assert [r.sequence for r in results] == list(range(1, 10))
        entries = await any_log.read(conversation="c")
        assert [entry.event for entry in entries] == events

    @pytest.mark.parametrize(
        ("bad", "error"),
        [
            (message(""), EmptyConversation),
            (message("c", "x" * 2_000_000), EventTooLarge),
            (message("c", "\ud800"), InvalidEvent),
            (message("c", id=""), InvalidEvent),
            (MessageReceived(conversation=5, text=""), InvalidEvent),  # type: ignore[arg-type]
            (SessionTouched(conversation="c", session=""), InvalidEvent),
        ],
    )
    @pytest.mark.parametrize("place", [0, 600, -1])
    async def test_one_bad_event_writes_nothing(self, any_log, bad, error, place):
        events: list[Event] = [message(f"chat:{n % 9}", n) for n in range(700)]
        events.insert(place, bad)
        with pytest.raises(InvalidEvent) as caught:
            await any_log.append(events)
        assert type(caught.value) is error
        assert await any_log.heads() == [START] * 4

    async def test_many_tasks_at_once_keep_each_its_order(self, any_log):
        async def bot(name: str) -> None:
            for n in range(20):
                await any_log.append(message(name, n))

        await asyncio.gather(*(bot(f"chat:{n}") for n in range(30)))
        assert await assert_gapless(any_log) == 600
        for n in range(30):
            assert await all_texts(any_log, f"chat:{n}") == [str(n) for n in range(20)]

    async def test_calls_made_in_order_without_waiting_land_in_order(self, any_log):
        calls = [any_log.append(message("c", n)) for n in range(300)]
        results = await asyncio.gather(*calls)
        assert [r.sequence for r in results] == list(range(1, 301))
        assert await all_texts(any_log, "c") == [str(n) for n in range(300)]

    async def test_a_type_that_is_not_registered_is_refused(self, any_log):
        class Mine(Event, tag="mine", frozen=True, kw_only=True):
            pass

        with pytest.raises(InvalidEvent, match="types="):
            await any_log.append(Mine(conversation="c"))


class TestDuplicates:
    async def test_another_call_gets_the_original_s_place(self, any_log):
        event = message("c", "first")
        original = await any_log.append(event)
        again = await any_log.append(message("c", "changed", id=event.id))
        assert again == original._replace(duplicate=True)
        assert await all_texts(any_log, "c") == ["first"]

    async def test_within_one_call(self, any_log):
        first, second = message("c", 1), message("c", 2)
        results = await any_log.append([first, first, second, first])
        assert [r.duplicate for r in results] == [False, True, False, True]
        assert [r.sequence for r in results] == [1, 1, 2, 1]
        assert await all_texts(any_log, "c") == ["1", "2"]

    async def test_within_one_call_of_several_steps(self, any_log):
        events = messages("c", 600)
        results = await any_log.append([*events, *reversed(events)])
        assert [r.sequence for r in results] == [*range(1, 601), *range(600, 0, -1)]
        assert [r.duplicate for r in results] == [False] * 600 + [True] * 600
        assert await assert_gapless(any_log) == 600

    async def test_at_the_same_time(self, any_log):
        event = message("c")
        results = await asyncio.gather(*(any_log.append(event) for _ in range(50)))
        assert sorted(r.duplicate for r in results) == [False] + [True] * 49
        assert {r.id for r in results} == {results[0].id}
        assert await assert_gapless(any_log) == 1

    async def test_old_and_new_in_one_list(self, any_log):
        old, new = messages("c", 5), messages("c", 5)
        originals = await any_log.append(old)
        mixed = [event for pair in zip(old, new, strict=True) for event in pair]
        results = await any_log.append(mixed)
        assert results[::2] == [r._replace(duplicate=True) for r in originals]
        assert [r.sequence for r in results[1::2]] == [6, 7, 8, 9, 10]
        assert not any(r.duplicate for r in results[1::2])

    async def test_sent_by_two_lists_at_once(self, any_log):
        events = [message(f"chat:{n % 5}", n) for n in range(300)]
        one, two = await asyncio.gather(
            any_log.append(events), any_log.append(list(reversed(events)))
        )
        assert [r.id for r in one] == [r.id for r in reversed(two)]
        for a, b in zip(one, reversed(two), strict=True):
            assert a.duplicate != b.duplicate
        assert await assert_gapless(any_log) == 300


class TestVersions:
    async def test_each_event_of_an_entity_is_one_more(self, any_log):
        versions = [(await any_log.append(touched("s"))).version for _ in range(3)]
        assert versions == [1, 2, 3]
        assert (await any_log.append(touched("other"))).version == 1
        assert (await any_log.append(message("c"))).version is None
        mapped = ConversationMapped(conversation="c", session="s")
        assert (await any_log.append(mapped)).version == 1

    async def test_a_list_counts_on(self, any_log):
        life = [
            SessionStarted(conversation="c", session="s"),
            message("c"),
            SessionTransitioned(conversation="c", session="s", to_status="completed"),
        ]
        assert [r.version for r in await any_log.append(life)] == [1, None, 2]

    async def test_the_expected_version_holds(self, any_log):
        first = await any_log.append(touched("s"), expected_version=0)
        second = await any_log.append([touched("s"), touched("s")], expected_version=1)
        assert [first.version, *(r.version for r in second)] == [1, 2, 3]

    @pytest.mark.parametrize("expected", [0, 1, 3, -1])
    async def test_another_version_is_a_conflict_and_writes_nothing(self, any_log, expected):
        await any_log.append([touched("s"), touched("s")])
        with pytest.raises(VersionConflict) as caught:
            await any_log.append([touched("s"), touched("s")], expected_version=expected)
        assert caught.value.entity == "session:s"
        assert (caught.value.expected_version, caught.value.actual_version) == (expected, 2)
        assert await assert_gapless(any_log) == 2
        assert (await any_log.append(touched("s"), expected_version=2)).version == 3

    async def test_sent_again_it_is_a_duplicate_not_a_conflict(self, any_log):
        event = touched("s")
        original = await any_log.append(event, expected_version=0)
        again = await any_log.append(event, expected_version=0)
        assert again == original._replace(duplicate=True)

    async def test_of_many_who_expect_the_same_one_wins(self, any_log):
        outcomes = await asyncio.gather(
            *(any_log.append(touched("s"), expected_version=0) for _ in range(20)),
            return_exceptions=True,
        )
        won = [o for o in outcomes if isinstance(o, AppendResult)]
        lost = [o for o in outcomes if isinstance(o, VersionConflict)]
        assert (len(won), len(lost)) == (1, 19)
        assert await assert_gapless(any_log) == 1

    async def test_a_conflict_is_nobody_else_s(self, any_log):
        await any_log.append(touched("s"))
        outcomes = await asyncio.gather(
            *(
                any_log.append(touched("s"), expected_version=9)
                if n % 5 == 0
                else any_log.append(message("c", n))
                for n in range(50)
            ),
            return_exceptions=True,
        )
        for n, outcome in enumerate(outcomes):
            assert isinstance(outcome, VersionConflict if n % 5 == 0 else AppendResult)
        assert await all_texts(any_log, "c") == [str(n) for n in range(50) if n % 5]

    @pytest.mark.parametrize(
        "events",
        [
            [message("c")],
            [touched("s"), touched("t")],
            [touched("s"), message("c")],
            [touched("s"), ConversationMapped(conversation="c", session="s")],
            [touched("s") for _ in range(501)],
            [SessionTouched(conversation=f"chat:{n}", session="s") for n in range(9)],
            [],
        ],
        ids=["no entity", "two", "mixed", "two kinds", "too many", "over partitions", "none"],
    )
    async def test_an_expectation_needs_one_entity_in_one_step(self, any_log, events):
        with pytest.raises(InvalidEvent, match="expected"):
            await any_log.append(events, expected_version=0)
        assert await any_log.heads() == [START] * 4


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


class TestOpenAndClosed:
    CALLS: tuple[Callable[[EventLog], Awaitable[object]], ...] = (
        lambda log: log.append(message("c")),
        lambda log: log.append([]),
        lambda log: log.read(conversation="c"),
        lambda log: log.read(partition=0),
        lambda log: log.read_raw(0, START, 1),
        lambda log: log.heads(),
        lambda log: log.tail(),
        lambda log: log.tail("start"),
        lambda log: log.producer("p"),
    )

    async def test_use_before_open(self):
        log = EventLog.in_memory()
        for call in self.CALLS:
            with pytest.raises(LogNotOpen, match="async with"):
                await call(log)
        for use in (lambda: log.client, lambda: log.partition_of("c")):
            with pytest.raises(LogNotOpen):
                use()
        assert await log.ping() is False
        await log.close()

    async def test_use_after_close(self, any_log):
        producer = await any_log.producer("p")
        assert await any_log.ping() is True
        await any_log.close()
        await any_log.close()
        for call in self.CALLS:
            with pytest.raises(LogNotOpen):
                await call(any_log)
        with pytest.raises(LogNotOpen):
            await producer.append([(1, message("c"))])
        assert await any_log.ping() is False

    async def test_close_answers_what_is_queued(self, any_log):
        appends = [asyncio.create_task(any_log.append(message("c", n))) for n in range(100)]
        await turns()
        await any_log.close()
        results = await asyncio.gather(*appends)
        assert [r.sequence for r in results] == list(range(1, 101))

    async def test_opening_twice_warns_and_changes_nothing(self, any_log, caplog):
        await any_log.append(message("c"))
        assert await any_log is any_log
        assert "already_open" in caplog.text
        assert await assert_gapless(any_log) == 1


class TestCancellation:
    async def test_sending_again_is_safe_whatever_became_of_it(self, any_log):
        events = [message(f"chat:{n % 3}", n) for n in range(60)]
        for count in range(8):
            append = asyncio.create_task(any_log.append(events[: 10 * count]))
            await turns(count)
            append.cancel()
            await asyncio.wait([append])
        results = await any_log.append(events)
        assert len({(r.partition, r.id) for r in results}) == 60
        assert await assert_gapless(any_log) == 60

    async def test_others_are_not_cancelled_with_it(self, any_log):
        appends = [asyncio.create_task(any_log.append(message("c", n))) for n in range(20)]
        await turns()
        for n in (0, 7, 19):
            appends[n].cancel()
        outcomes = await asyncio.gather(*appends, return_exceptions=True)
        for n, outcome in enumerate(outcomes):
            expected = asyncio.CancelledError if n in (0, 7, 19) else AppendResult
            assert isinstance(outcome, expected)
        await eventually(any_log.ping)
        texts = await all_texts(any_log, "c")
        assert [t for t in texts if int(t) not in (0, 7, 19)] == [
            str(n) for n in range(20) if n not in (0, 7, 19)
        ]

    async def test_a_cancelled_tail_goes_on_where_it_was(self, any_log):
        tail = await any_log.tail()
        waiting = asyncio.create_task(anext(tail))
        await turns()
        waiting.cancel()
        await asyncio.wait([waiting])
        await any_log.append(message("c", "first"))
        assert (await anext(tail)).event.text == "first"
