from __future__ import annotations

from typing import Any

import msgspec
import pytest

from eventlog.errors import InvalidQuery
from eventlog.event import Event
from eventlog.log import EventLog
from eventlog.vocabulary import (
    DeadLetterDiscarded,
    DeadLetterParked,
    DeadLetterReplayed,
    DeadLetterReplayRequested,
    DeadLetterResolved,
    FailedAttempt,
)
from projections.storing.memory_models import MemoryModels
from projections.views.dead_letters import DEAD_LETTERS, KEPT_FAILURES, DeadLetter, DeadLetters
from tests.projecting import fold


def parked(letter: str = "l1", at_us: int = 1000, reason: str = "timeout") -> DeadLetterParked:
    return DeadLetterParked(
        conversation="chat",
        letter=letter,
        group="delivery",
        reason=reason,
        attempts=3,
        error="boom",
        origin="2/17-4",
        recipient="bob",
        text="hello",
        reply_to="m7",
        occurred_at=at_us,
    )


def replayed(attempt: int, letter: str = "l1") -> DeadLetterReplayed:
    return DeadLetterReplayed(
        conversation="chat", letter=letter, group="delivery", attempt=attempt, error="again"
    )


def requested(
    letter: str = "l1", version: int = 2, runner: str | None = None
) -> DeadLetterReplayRequested:
    return DeadLetterReplayRequested(
        conversation="chat",
        letter=letter,
        group="delivery",
        version=version,
        runner=runner,
        occurred_at=5000,
    )


def resolved(letter: str = "l1") -> DeadLetterResolved:
    return DeadLetterResolved(conversation="chat", letter=letter, group="delivery", occurred_at=9)


def discarded(letter: str = "l1") -> DeadLetterDiscarded:
    return DeadLetterDiscarded(
        conversation="chat", letter=letter, group="delivery", reason="old", occurred_at=8
    )


def test_a_letter_keeps_all_that_is_needed_to_send_it_again() -> None:
    assert fold(DEAD_LETTERS, parked()) == DeadLetter(
        letter="l1",
        conversation="chat",
        group="delivery",
        reason="timeout",
        error="boom",
        attempts=3,
        parked_at=1000,
        origin="2/17-4",
        recipient="bob",
        text="hello",
        reply_to="m7",
        version=1,
        parked_entry="0/1-1",
        parked_sequence=1,
        last_sequence=1,
    )


def test_it_says_each_attempt_that_failed_and_where_the_program_was() -> None:
    tried = [FailedAttempt(1, 10, "busy", "429"), FailedAttempt(2, 20, "gone", "404")]
    made = msgspec.structs.replace(parked(), failures=tried, traceback="here", session="s")
    letter = fold(DEAD_LETTERS, made, requested(), replayed(4))
    assert letter.failures == [*tried, FailedAttempt(4, letter.failures[-1].failed_at, "again")]
    assert (letter.traceback, letter.session) == ("here", "s")


def test_of_many_failed_attempts_the_last_are_told() -> None:
    letter = fold(DEAD_LETTERS, parked(), *(replayed(n) for n in range(4, 104)))
    assert [each.attempt for each in letter.failures] == [*range(104 - KEPT_FAILURES, 104)]


def test_parked_again_by_its_group_it_keeps_earlier_attempts_and_its_text() -> None:
    first = msgspec.structs.replace(parked(), failures=[FailedAttempt(3, 10, "busy")])
    again = DeadLetterParked(
        conversation="chat",
        letter="l1",
        group="delivery",
        reason="gone",
        attempts=5,
        failures=[FailedAttempt(4, 40, "busy"), FailedAttempt(5, 50, "gone")],
    )
    letter = fold(DEAD_LETTERS, first, requested(), again)
    assert [each.attempt for each in letter.failures] == [3, 4, 5]
    assert (letter.status, letter.reason, letter.attempts) == ("parked", "gone", 5)
    assert (letter.text, letter.reply_to, letter.error) == ("hello", "m7", "boom")
    assert fold(DEAD_LETTERS, first, requested(), parked()).attempts == 3


def test_asked_for_it_is_replaying_until_that_ends() -> None:
    letter = fold(DEAD_LETTERS, parked(), requested(runner="me"))
    assert (letter.status, letter.runner, letter.requested_at) == ("replaying", "me", 5000)
    for ending, status in ((replayed(4), "parked"), (parked(), "parked"), (resolved(), "resolved")):
        ended = fold(DEAD_LETTERS, parked(), requested(runner="me"), ending)
        assert (ended.status, ended.runner, ended.replay_count) == (status, None, 1)


def test_a_replay_that_nobody_asked_for_counts_as_well() -> None:
    letter = fold(DEAD_LETTERS, parked(), requested(), replayed(4), replayed(5))
    assert letter.replay_count == 2


def test_its_version_counts_all_its_events_those_after_the_end_too() -> None:
    letter = fold(DEAD_LETTERS, parked(), requested(), resolved(), requested(), parked())
    assert (letter.version, letter.status, letter.settled_at) == (5, "resolved", 9)


def test_a_failed_replay_counts_and_leaves_it_parked() -> None:
    letter = fold(DEAD_LETTERS, parked(), replayed(4), replayed(2))
    assert (letter.status, letter.attempts, letter.error) == ("parked", 4, "again")


def test_resolved_and_discarded_are_final() -> None:
    letter = fold(DEAD_LETTERS, parked(), resolved(), discarded(), parked(reason="other"))
    assert (letter.status, letter.settled_at, letter.reason) == ("resolved", 9, "timeout")
    assert fold(DEAD_LETTERS, parked(), discarded(), resolved()).status == "discarded"


def test_parked_again_it_keeps_its_place_in_the_queue() -> None:
    letter = fold(DEAD_LETTERS, parked(at_us=1000), replayed(5), parked(at_us=9000))
    assert (letter.parked_at, letter.attempts) == (1000, 5)


def test_only_parked_letters_are_found_by_group_chat_and_reason() -> None:
    names = {name for name, _ in DEAD_LETTERS.index("l1", fold(DEAD_LETTERS, parked()))}
    assert names == {
        "all",
        "status:parked",
        "group:delivery",
        "conversation:chat",
        "reason:timeout",
        "unsettled:delivery",
    }
    asked = fold(DEAD_LETTERS, parked(), requested())
    names = {name for name, _ in DEAD_LETTERS.index("l1", asked)}
    assert names == {"all", "status:replaying", "unsettled:delivery"}
    done = fold(DEAD_LETTERS, parked(), resolved())
    assert {name for name, _ in DEAD_LETTERS.index("l1", done)} == {"all", "status:resolved"}


async def test_lists_and_counts_follow_the_letters() -> None:
    async with EventLog.in_memory(partition_count=3) as log:
        letters = DeadLetters(log, MemoryModels(log))
        events: list[Event] = [parked(f"l{n}", n * 1000, "xy"[n % 2]) for n in range(6)]
        await log.append([*events, resolved("l1"), discarded("l2")])
        assert await letters.counts_by_reason() == {"x": 2, "y": 2}
        assert await letters.counts_by_status() == {"parked": 4, "resolved": 1, "discarded": 1}
        page = await letters.list(group="delivery", limit=3)
        assert [each.letter for each in page.items] == ["l5", "l4", "l3"]
        rest = await letters.list(group="delivery", limit=3, cursor=page.cursor)
        assert [each.letter for each in rest.items] == ["l0"]
        assert [each.letter for each in (await letters.list(reason="y")).items] == ["l5", "l3"]
        assert [each.letter for each in (await letters.list(status="discarded")).items] == ["l2"]
        found = await letters.get("l1", conversation="chat")
        assert found
        assert found == await letters.get("l1")
        assert await letters.get("l9") is None


async def test_what_is_not_settled_is_paged_in_the_order_of_parking() -> None:
    async with EventLog.in_memory(partition_count=1) as log:
        letters = DeadLetters(log, MemoryModels(log))
        # By the producers' clocks the last parked is the oldest.
        events: list[Event] = [parked(f"l{n}", 9000 - n) for n in range(6)]
        await log.append([*events, resolved("l1"), requested("l2"), requested("l3", runner="me")])

        async def page(after: int, limit: int) -> list[str]:
            found = await letters.unsettled("delivery", 0, after, limit)
            return [f"{each.letter} {each.parked_sequence}" for each in found]

        assert await page(0, 3) == ["l0 1", "l2 3", "l3 4"]
        assert await page(4, 3) == ["l4 5", "l5 6"]
        assert await page(6, 3) == []
        assert await letters.unsettled("other", 0, 0, 9) == []


async def test_letters_are_listed_by_age_alone_or_with_one_filter() -> None:
    async with EventLog.in_memory(partition_count=3) as log:
        letters = DeadLetters(log, MemoryModels(log))
        events = [
            DeadLetterParked(
                conversation=f"chat:{n}",
                letter=f"l{n}",
                group="delivery",
                reason="xy"[n % 2],
                occurred_at=n * 1000,
            )
            for n in range(10)
        ]
        await log.append(events)

        async def listed(**bounds: Any) -> list[str]:
            found: list[str] = []
            cursor = None
            while True:
                page = await letters.list(**bounds, limit=2, cursor=cursor)
                found += [each.letter for each in page.items]
                cursor = page.cursor
                if cursor is None:
                    return found

        assert await listed(parked_before_us=4000) == ["l3", "l2", "l1", "l0"]
        assert await listed(parked_after_us=7000) == ["l9", "l8", "l7"]
        within = {"parked_after_us": 2000, "parked_before_us": 8000}
        assert await listed(**within) == ["l7", "l6", "l5", "l4", "l3", "l2"]
        assert await listed(**within, reason="x") == ["l6", "l4", "l2"]
        assert await listed(**within, conversation="chat:5") == ["l5"]
        assert await listed(**within, status="resolved") == []
        # What the store has, and not the tail alone, is cut off by age.
        assert (await letters.list(parked_before_us=4000, consistency="stored")).items == []


async def test_a_time_within_a_millisecond_is_the_next_one() -> None:
    async with EventLog.in_memory(partition_count=1) as log:
        letters = DeadLetters(log, MemoryModels(log))
        await log.append(parked(at_us=5000))
        assert (await letters.list(parked_before_us=5000)).items == []
        assert len((await letters.list(parked_before_us=5001)).items) == 1
        assert len((await letters.list(parked_after_us=5000)).items) == 1
        assert (await letters.list(parked_after_us=5001)).items == []


async def test_an_age_that_no_letter_can_have_is_refused() -> None:
    async with EventLog.in_memory(partition_count=1) as log:
        letters = DeadLetters(log, MemoryModels(log))
        for bounds in ((9000, 5000), (5000, 5000)):
            with pytest.raises(InvalidQuery):
                await letters.list(parked_after_us=bounds[0], parked_before_us=bounds[1])
