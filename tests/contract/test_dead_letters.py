"""Asking for replays, discarding, persisting and exporting, as events of the letter."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from analytics import Archiver
from bridge.importers.importing import import_paths
from consumers.dead_letters import (
    CHANGED_AT_ONCE,
    Outcome,
    discard,
    export,
    letter_event_id,
    payload_of,
    persist_failed_delivery,
    request_replay,
)
from eventlog.errors import EventTooLarge, InvalidEvent
from eventlog.event import Event
from eventlog.ids import EntryId
from eventlog.log import EventLog
from eventlog.vocabulary import (
    DeadLetterDiscarded,
    DeadLetterParked,
    DeadLetterReplayed,
    DeadLetterReplayRequested,
    DeadLetterResolved,
    FailedAttempt,
    MessageQueued,
)
from projections.storing.memory_models import MemoryModels
from projections.views.dead_letters import DeadLetter, DeadLetters

BOUNCES = Path(__file__).parents[2] / "examples" / "data" / "bounces"


def letters_of(log: EventLog) -> DeadLetters:
    return DeadLetters(log, MemoryModels(log) if log.is_in_memory else None)


async def found(log: EventLog, name: str) -> DeadLetter:
    letter = await letters_of(log).get(name)
    assert letter is not None
    return letter


async def persisted(log: EventLog, name: str, conversation: str = "chat:1") -> DeadLetter:
    await persist_failed_delivery(log, conversation=conversation, text="hello", letter=name)
    return await found(log, name)


async def events_of(log: EventLog, conversation: str = "chat:1") -> list[Event]:
    return [entry.event for entry in await log.read(conversation=conversation, limit=1000)]


class TestAskingForReplays:
    async def test_a_parked_letter_is_replaying_from_then_on(self, any_log):
        letter = await persisted(any_log, "l")
        assert await request_replay(any_log, [letter]) == [Outcome("l", "requested")]
        _, request = await events_of(any_log)
        assert isinstance(request, DeadLetterReplayRequested)
        assert (request.group, request.version, request.runner) == ("delivery", 2, None)
        after = await found(any_log, "l")
        assert (after.status, after.version) == ("replaying", request.version)

    async def test_of_two_who_ask_at_once_one_is_recorded(self, any_log):
        letter = await persisted(any_log, "l")
        await asyncio.gather(*(request_replay(any_log, [letter]) for _ in range(5)))
        assert len(await events_of(any_log)) == 2

    async def test_it_has_changed_where_somebody_settled_or_tried_it_meanwhile(self, any_log):
        seen = [await persisted(any_log, name) for name in ("a", "b", "c")]
        [a, b, _] = seen
        await discard(any_log, [a], "old")
        await request_replay(any_log, [b])
        await any_log.append(
            DeadLetterReplayed(conversation="chat:1", letter="b", group="delivery", attempt=1)
        )
        assert [each.status for each in await request_replay(any_log, seen)] == [
            "changed",
            "changed",
            "requested",
        ]
        assert (await found(any_log, "a")).status == "discarded"
        assert (await found(any_log, "b")).status == "parked"

    async def test_what_is_being_replayed_is_left_to_who_does_it(self, any_log):
        await persisted(any_log, "l")
        await request_replay(any_log, [await found(any_log, "l")])
        before = await events_of(any_log)
        assert await request_replay(any_log, [await found(any_log, "l")]) == [
            Outcome("l", "changed")
        ]
        assert await events_of(any_log) == before

    async def test_many_are_asked_for_in_the_order_of_parking_whatever_the_list_s(self, log):
        count = CHANGED_AT_ONCE + 20
        for number in range(count):
            await persist_failed_delivery(
                log, conversation=f"chat:{number % 3}", text="t", letter=f"l{number}"
            )
        newest_first = (await DeadLetters(log).list(limit=1000)).items
        outcomes = await request_replay(log, newest_first)
        assert outcomes == [Outcome(each.letter, "requested") for each in newest_first]
        for chat in range(3):
            asked = [
                event.letter
                for event in await events_of(log, f"chat:{chat}")
                if isinstance(event, DeadLetterReplayRequested)
            ]
            assert asked == [f"l{number}" for number in range(chat, count, 3)]

    async def test_imported_letters_can_be_asked_for(self, log):
        await import_paths(log, [BOUNCES])
        imported = (await DeadLetters(log).list()).items
        assert imported
        outcomes = await request_replay(log, imported)
        assert {outcome.status for outcome in outcomes} == {"requested"}


class TestDiscarding:
    async def test_it_is_final_and_says_why(self, any_log):
        letter = await persisted(any_log, "l")
        assert await discard(any_log, [letter], " the user left ") == [Outcome("l", "discarded")]
        *_, event = await events_of(any_log)
        assert isinstance(event, DeadLetterDiscarded)
        assert event.reason == "the user left"
        assert (await found(any_log, "l")).status == "discarded"

    @pytest.mark.parametrize("reason", ["", "  \n"])
    async def test_without_a_reason_nothing_is_discarded(self, any_log, reason):
        letter = await persisted(any_log, "l")
        with pytest.raises(InvalidEvent):
            await discard(any_log, [letter], reason)
        assert len(await events_of(any_log)) == 1

    async def test_what_changed_meanwhile_is_not_discarded(self, any_log):
        asked, done = await persisted(any_log, "asked"), await persisted(any_log, "done")
        await request_replay(any_log, [asked])
        await any_log.append(
            DeadLetterResolved(conversation="chat:1", letter="done", group="delivery")
        )
        outcomes = await discard(any_log, [asked, done], "old")
        assert [each.status for each in outcomes] == ["changed", "changed"]

    async def test_what_waits_for_its_group_can_be_discarded_and_says_why(self, any_log):
        await request_replay(any_log, [await persisted(any_log, "asked")])
        [outcome] = await discard(any_log, [await found(any_log, "asked")], "nobody is left")
        assert outcome.status == "discarded"
        assert (await found(any_log, "asked")).discard_reason == "nobody is left"
        [outcome] = await discard(any_log, [await found(any_log, "asked")], "again")
        assert outcome.status == "changed"

    async def test_a_replay_and_a_discarding_at_once_do_not_both_happen(self, any_log):
        letters = [await persisted(any_log, f"l{number}") for number in range(10)]
        replays, discards = await asyncio.gather(
            request_replay(any_log, letters), discard(any_log, letters, "old")
        )
        for replay, discarding in zip(replays, discards, strict=True):
            assert {replay.status, discarding.status} in (
                {"requested", "changed"},
                {"discarded", "changed"},
            )


class TestPersisting:
    async def test_a_letter_holds_all_that_is_needed_to_send_it(self, any_log):
        name = await persist_failed_delivery(
            any_log,
            conversation="telegram:42",
            text="ж" * 20_000,
            reply_to=991,
            recipient="ada",
            session="s",
            attempts=2,
            reason="blocked",
            error="403",
        )
        letter = await found(any_log, name)
        assert letter.text == "ж" * 20_000
        assert (letter.reply_to, letter.recipient, letter.session) == ("991", "ada", "s")
        assert (letter.attempts, letter.reason, letter.error) == (2, "blocked", "403")
        assert (letter.status, letter.group, letter.origin) == ("parked", "delivery", None)

    async def test_attempts_count_from_none_and_letters_have_names_of_their_own(self, any_log):
        names = {
            await persist_failed_delivery(any_log, conversation="chat:1", text="same")
            for _ in range(3)
        }
        assert len(names) == 3
        assert {(await found(any_log, name)).attempts for name in names} == {0}

    async def test_repeated_it_is_recorded_once_even_after_its_end(self, any_log):
        letter = await persisted(any_log, "l")
        await discard(any_log, [letter], "old")
        assert await persisted(any_log, "l") == await found(any_log, "l")
        assert len(await events_of(any_log)) == 2

    async def test_what_no_event_can_hold_is_refused(self, any_log):
        text = "x" * any_log.settings.max_event_bytes
        with pytest.raises(EventTooLarge):
            await persist_failed_delivery(any_log, conversation="chat:1", text=text)
        with pytest.raises(InvalidEvent):
            await persist_failed_delivery(any_log, conversation="", text="hello")


class TestExporting:
    async def test_everything_about_it_fits_into_json(self, any_log):
        await any_log.append(
            DeadLetterParked(
                conversation="chat:1",
                letter="l",
                group="delivery",
                reason="gone",
                attempts=2,
                error="404",
                traceback="Traceback …",
                text="hello",
                failures=[FailedAttempt(1, 10, "busy", "429"), FailedAttempt(2, 20, "gone")],
                occurred_at=1000,
            )
        )
        exported = json.loads(json.dumps(export(await found(any_log, "l"))))
        assert exported == {
            "letter": "l",
            "conversation": "chat:1",
            "group": "delivery",
            "status": "parked",
            "discard_reason": None,
            "version": 1,
            "reason": "gone",
            "error": "404",
            "traceback": "Traceback …",
            "attempts": 2,
            "failures": [
                {"attempt": 1, "failed_at": 10, "error": "busy", "code": "429"},
                {"attempt": 2, "failed_at": 20, "error": "gone", "code": None},
            ],
            "text": "hello",
            "recipient": None,
            "reply_to": None,
            "session": None,
            "origin": None,
            "runner": None,
            "replay_count": 0,
            "parked_at": 1000,
            "requested_at": None,
            "settled_at": None,
            "payload": None,
        }

    async def parked_from(self, log: EventLog, origin: str) -> DeadLetter:
        await log.append(
            DeadLetterParked(
                conversation="chat:1", letter="l", group="delivery", reason="gone", origin=origin
            )
        )
        return await found(log, "l")

    async def test_the_payload_is_the_entry_that_was_given_up_on(self, any_log):
        await any_log.append(MessageQueued(conversation="chat:1", text="zero"))
        queued = MessageQueued(conversation="chat:1", text="one", recipient="ada")
        place = await any_log.append(queued)
        letter = await self.parked_from(any_log, f"{place.partition}/{place.id}")
        payload = export(letter, await payload_of(any_log, letter))["payload"]
        assert payload == json.loads(any_log.codec.encode(queued))

    async def test_the_payload_comes_from_the_archive_where_the_log_has_it_no_more(
        self, log, storage, past
    ):
        place = await log.append(MessageQueued(conversation="chat:1", text="one"))
        async with Archiver(log, storage) as archiver:
            await archiver.run_once()
        letter = await self.parked_from(log, f"{place.partition}/{place.id}")
        await log.client.xtrim(log.keys.stream(place.partition), maxlen=0)
        assert await payload_of(log, letter) is None
        assert (await payload_of(log, letter, past))["text"] == "one"

    async def test_an_entry_that_is_no_event_is_shown_as_text(self, log):
        head = EntryId(1, 1)
        await log.client.xadd(log.keys.stream(0), {"e": b"\xff{"}, id=str(head))
        letter = await self.parked_from(log, f"0/{head}")
        assert await payload_of(log, letter) == "\ufffd{"

    async def test_a_letter_without_origin_has_no_payload(self, any_log):
        assert await payload_of(any_log, await persisted(any_log, "l")) is None


def test_an_event_s_id_fits_whatever_the_letter_is_called() -> None:
    of: Callable[..., str] = letter_event_id
    assert of("replay", "l", 3) == "replay:l:3"
    assert of("claim", "l", 3, "me") == "claim:l:3:me"
    long = [of("replay", "x" * 511 + last, 3) for last in "ab"]
    assert len(set(long)) == 2
    names: Sequence[DeadLetterReplayRequested] = [
        DeadLetterReplayRequested(conversation="c", id=each, letter="l", group="g", version=1)
        for each in long
    ]
    for event in names:
        msgspec.json.decode(msgspec.json.encode(event), type=DeadLetterReplayRequested)
