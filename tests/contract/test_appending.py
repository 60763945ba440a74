"""Appending, on the in-memory store and on a real server alike (`any_log`)."""

from __future__ import annotations

import asyncio

import pytest

from eventlog import (
    START,
    AppendResult,
    ConversationCleared,
    ConversationMapped,
    EntryId,
    Event,
    MessageReceived,
    SessionStarted,
    SessionTouched,
    SessionTransitioned,
)
from eventlog.entity import FREE
from eventlog.errors import (
    EmptyConversation,
    EventTooLarge,
    InvalidEvent,
    VersionConflict,
)
from eventlog.vocabulary import conversation_entity
from tests.logs import all_texts, assert_gapless, message, messages, touched


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


class TestFree:
    """`expected_version={entity: FREE}`: what nobody holds, as far as its partition knows."""

    PLACE = conversation_entity("c")

    def taking(self, session: str, conversation: str = "c") -> list[Event]:
        return [
            SessionStarted(conversation=conversation, session=session),
            ConversationMapped(conversation=conversation, session=session),
        ]

    async def take(self, log, session: str):
        return await log.append(self.taking(session), expected_version={self.PLACE: FREE})

    def ended(self, session: str, status: str) -> Event:
        return SessionTransitioned(conversation="c", session=session, to_status=status)

    async def test_what_nothing_was_said_of_is_free_and_then_held(self, any_log):
        first = await self.take(any_log, "s1")
        assert [result.version for result in first] == [1, 1]
        with pytest.raises(VersionConflict) as caught:
            await self.take(any_log, "s2")
        assert (caught.value.entity, caught.value.expected_version) == (self.PLACE, FREE)
        assert caught.value.actual_version == 1
        assert await assert_gapless(any_log) == 2

    @pytest.mark.parametrize("status", ["completed", "failed"])
    async def test_so_it_is_once_its_holder_is_over_and_that_stays(self, any_log, status):
        await self.take(any_log, "s1")
        await any_log.append(self.ended("s1", status))
        await any_log.append([touched("s1"), self.ended("s1", "active")])
        assert [result.version for result in await self.take(any_log, "s2")] == [1, 2]

    @pytest.mark.parametrize("status", ["dormant", "active", "pending"])
    async def test_a_holder_that_goes_on_holds(self, any_log, status):
        await self.take(any_log, "s1")
        await any_log.append(self.ended("s1", status))
        with pytest.raises(VersionConflict):
            await self.take(any_log, "s2")

    async def test_what_was_freed_is_free_whoever_held_it(self, any_log):
        await self.take(any_log, "s1")
        await any_log.append(ConversationCleared(conversation="c", session="s1"))
        assert (await self.take(any_log, "s2"))[1].version == 3
        await any_log.append(ConversationMapped(conversation="c"))
        assert (await self.take(any_log, "s3"))[1].version == 5

    async def test_a_holder_of_another_partition_counts_as_going_on(self, any_log):
        elsewhere = next(
            name for name in map(str, range(99))
            if any_log.partition_of(name) != any_log.partition_of("c")
        )  # fmt: skip
        over = SessionTransitioned(conversation=elsewhere, session="s", to_status="completed")
        await any_log.append([SessionStarted(conversation=elsewhere, session="s"), over])
        await any_log.append(ConversationMapped(conversation="c", session="s"))
        with pytest.raises(VersionConflict):
            await self.take(any_log, "s2")

    async def test_of_many_who_take_it_at_once_one_does(self, any_log):
        taken = await asyncio.gather(
            *(self.take(any_log, f"s{n}") for n in range(20)), return_exceptions=True
        )
        assert sum(isinstance(each, list) for each in taken) == 1
        assert await assert_gapless(any_log) == 2

    async def test_taken_again_with_the_same_events_it_is_a_duplicate(self, any_log):
        events = self.taking("s1")
        first = await any_log.append(events, expected_version={self.PLACE: FREE})
        again = await any_log.append(events, expected_version={self.PLACE: FREE})
        assert again == [result._replace(duplicate=True) for result in first]

    async def test_a_version_is_a_version_whatever_the_mark(self, any_log):
        await self.take(any_log, "s1")
        mapped = ConversationMapped(conversation="c", session="s1")
        assert (await any_log.append(mapped, expected_version=1)).version == 2
        with pytest.raises(VersionConflict):
            await any_log.append(
                ConversationMapped(conversation="c", session="s1"), expected_version=0
            )
