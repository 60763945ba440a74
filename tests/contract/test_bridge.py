"""The calls of a bot that delivers: queue, record what failed, try it again."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from bridge import Bridge
from consumers import DeliveryHandlers, Retry, Worker
from consumers.dead_letters import Letter
from consumers.senders.sender import Delivery, Receipt
from eventlog import Attachment, Event, EventLog, MessageQueued, MessageSent
from eventlog.errors import InvalidEvent, InvalidQuery, SendFailed, UnknownPlatform, UserNotAllowed
from projections.builtin import DEFAULT_PROJECTIONS
from projections.projection import Projection

LONGEST = "x" * 20_000


class Phone:
    """A platform that may be down."""

    def __init__(self) -> None:
        self.is_down = False
        self.got: list[str] = []
        self._numbers = itertools.count(1)

    async def send(self, message: MessageQueued, delivery: Delivery) -> Receipt:  # noqa: ARG002
        if self.is_down:
            raise SendFailed("nobody answers.", reason="unreachable")
        self.got.append(delivery.idempotency_key)
        return Receipt(f"phone-{next(self._numbers)}")

    async def close(self) -> None:
        """Nothing is open."""


async def test_what_is_sent_is_queued_delivered_and_recorded(log: EventLog) -> None:
    bridge, phone = Bridge(log), Phone()
    reference = Attachment(url="s3://files/1")
    queued = await bridge.send(
        "phone:7", LONGEST, idempotency_key="m1", session="s", reply_to=4, attachments=[reference]
    )
    assert not queued.duplicate
    assert (await bridge.send("phone:7", "again", idempotency_key="m1")).duplicate

    await Worker(log, "delivery", DeliveryHandlers({"phone": phone})).run_once()

    sent = (await log.read(conversation="phone:7"))[-1].event
    assert isinstance(sent, MessageSent)
    assert (sent.text, sent.message_id, sent.delivery) == (LONGEST, "phone-1", "m1")
    assert (sent.session, sent.reply_to, sent.attachments) == ("s", "4", [reference])
    assert phone.got == ["m1"]


async def test_what_was_given_up_is_sent_by_the_bot_itself_once(log: EventLog) -> None:
    bridge, phone = Bridge(log), Phone()
    phone.is_down = True
    retry = Retry(attempts=1)
    await bridge.send("phone:7", "one", idempotency_key="m1")
    await Worker(log, "delivery", DeliveryHandlers({"phone": phone}, retry=retry)).run_once()
    await bridge.persist_failed_delivery("phone:8", LONGEST, letter="mine", reply_to=991)
    again = await bridge.persist_failed_delivery("phone:8", LONGEST, letter="mine")
    assert again == "mine"

    tried: list[tuple[str, str | None, str | None]] = []

    async def refuse(letter: Letter) -> None:  # noqa: ARG001
        raise OSError("still down")

    async def take(letter: Letter) -> None:
        tried.append((letter.conversation, letter.text, letter.reply_to))

    report = await bridge.replay_dead_letters(refuse)
    assert (report.tried, report.failed) == (2, 2)
    assert {each.attempts for each in (await bridge.dead_letters.list()).items} == {1, 2}
    report = await bridge.replay_dead_letters(take)
    assert (report.tried, report.resolved) == (2, 2)
    assert sorted(tried) == [("phone:7", "one", None), ("phone:8", LONGEST, "991")]
    assert (await bridge.replay_dead_letters(take)).tried == 0
    assert await bridge.dead_letters.counts_by_status() == {"resolved": 2}


@pytest.mark.parametrize("projections", [DEFAULT_PROJECTIONS, None], ids=["projecting", "alone"])
async def test_who_may_not_use_the_bot_is_dropped_before_anything_is_recorded(
    server_url: str, caplog: pytest.LogCaptureFixture, projections: Sequence[Projection] | None
) -> None:
    caplog.set_level(logging.DEBUG, "eventlog.bridge")
    async with Bridge.open(
        server_url,
        key_prefix=f"bridge-allowed{bool(projections)}",
        projections=projections,
        platforms={"telegram": {7}},
    ) as bridge:
        assert await bridge.receive("telegram", 9, "hello") is None
        with pytest.raises(UserNotAllowed, match="user '9' of telegram"):
            await bridge.sessions.resolve("telegram", 9)
        with pytest.raises(UnknownPlatform, match="telgram"):
            await bridge.receive("telgram", 7, "hello")
        assert sum(head.n for head in await bridge.log.heads()) == 0
        told = [record.__dict__["event"] for record in caplog.records]
        assert told == ["user_not_allowed"] * 2

        received = await bridge.receive("telegram", 7, "hello")
        assert received is not None
        assert received.session.user == "7"
        bridge.allow("telegram", {9})
        assert await bridge.receive("telegram", 7, "hello again") is None
        assert (await bridge.receive("telegram", 9, "hello")) is not None


class Paid(Event, tag="invoice.paid", frozen=True, kw_only=True):
    amount_cents: int


async def test_a_bridge_knows_the_event_types_it_is_given(server_url: str) -> None:
    async with Bridge.open(server_url, key_prefix="bridge-types", types=[Paid]) as bridge:
        await bridge.log.append(Paid(conversation="c", amount_cents=995))
        [entry] = await bridge.log.read(conversation="c")
        assert isinstance(entry.event, Paid)


async def test_a_bridge_opens_and_closes_its_log(server_url: str) -> None:
    bridge = await Bridge.open(server_url, key_prefix="bridge-open")
    assert await bridge.log.ping()
    await bridge.close()
    await bridge.close()
    assert not await bridge.log.ping()


async def test_what_a_person_said_is_erased_and_the_rest_stands(log: EventLog) -> None:
    bridge = Bridge(log)
    session = await bridge.sessions.resolve("telegram", 7)
    await bridge.received(session, "my secret", message_id=1)
    await bridge.sent("telegram:7", "said to them alone, in no session")
    other = await bridge.sessions.resolve("telegram", 8)
    await bridge.received(other, "hello", message_id=1)
    planned = await bridge.erase(user="7", platform="telegram", dry_run=True)
    report = await bridge.erase(user="7", platform="telegram", reason="asked for")
    assert report.is_complete
    assert report.event_count == planned.event_count > 0
    said = (await bridge.history(session)).entries
    assert [entry.event.text for entry in said] == ["", ""]  # type: ignore[attr-defined]
    assert [entry.event.text for entry in (await bridge.history(other)).entries] == ["hello"]  # type: ignore[attr-defined]
    again = await bridge.sessions.resolve("telegram", 7)
    assert again.id == session.id


async def test_a_plain_function_sends_as_well(log: EventLog) -> None:
    bridge, sent = Bridge(log), []
    await bridge.persist_failed_delivery("phone:8", "hello", letter="mine")
    report = await bridge.replay_dead_letters(lambda letter: sent.append(letter.text))
    assert (report.resolved, sent) == (1, ["hello"])


async def test_ids_are_numbers_or_text_and_never_nothing(any_log: EventLog) -> None:
    bridge = Bridge(any_log)
    for given in ("", b"1", True, 3.5, object()):
        with pytest.raises(InvalidEvent):
            await bridge.received("web:1", "hi", message_id=given)  # type: ignore[arg-type]
        with pytest.raises(InvalidEvent):
            await bridge.received("web:1", "hi", sender=given)  # type: ignore[arg-type]
    assert (await bridge.history("web:1")).entries == []


async def test_what_came_in_and_what_went_out_may_have_one_number(any_log: EventLog) -> None:
    bridge = Bridge(any_log)
    assert not (await bridge.received("web:1", "in", message_id=5)).duplicate
    assert not (await bridge.sent("web:1", "out", message_id=5)).duplicate
    assert (await bridge.sent("web:1", "out", message_id="5")).duplicate


async def test_a_session_stands_for_its_id_and_words_that_are_none_are_refused(
    any_log: EventLog,
) -> None:
    bridge = Bridge(any_log)
    session = await bridge.sessions.resolve("telegram", 7)
    found = await bridge.sessions.get(session)
    assert found
    assert found.id == session.id
    assert [each.id for each in (await bridge.sessions.list(user=7)).items] == [session.id]
    assert (await bridge.sessions.touch(session)).version == 2
    for refused in (
        bridge.sessions.list(status="running"),  # type: ignore[arg-type]
        bridge.sessions.transition(session, "done"),  # type: ignore[arg-type]
    ):
        with pytest.raises(InvalidEvent, match="dormant"):
            await refused
    for limit in (0, "5", 2.5, True):
        with pytest.raises(InvalidQuery):
            await bridge.history(session, limit=limit)  # type: ignore[arg-type]
        with pytest.raises(InvalidQuery):
            await bridge.sessions.list(limit=limit)  # type: ignore[arg-type]
    assert (await bridge.sessions.complete(session)).status == "completed"


async def test_a_lock_in_place_of_its_fence_harms_no_other_append(log: EventLog) -> None:
    bridge = Bridge(log)
    session = await bridge.sessions.resolve("telegram", 7)
    async with bridge.sessions.lock(session) as lock:
        results = await asyncio.gather(
            bridge.received(session, "one"),
            bridge.received(session, "two", fence=lock),  # type: ignore[arg-type]
            bridge.received(session, "three"),
            return_exceptions=True,
        )
    assert [isinstance(each, InvalidEvent) for each in results] == [False, True, False]


async def test_a_shutdown_without_an_owner_leaves_the_sessions_of_others_awake(
    any_log: EventLog,
) -> None:
    owned, nobodys = Bridge(any_log, owner="one"), Bridge(any_log)
    first = await owned.sessions.resolve("telegram", 7)
    second = await nobodys.sessions.resolve("telegram", 8)
    assert await nobodys.sessions.dormant_all() == 1
    statuses = [await owned.sessions.get(each) for each in (first, second)]
    assert [each and each.status for each in statuses] == ["active", "dormant"]


async def test_a_time_is_a_datetime_or_microseconds(any_log: EventLog) -> None:
    bridge = Bridge(any_log)
    noon = datetime(2026, 5, 1, 12, tzinfo=UTC)
    await bridge.received("web:1", "a", occurred_at=noon)
    await bridge.received("web:1", "b", occurred_at=noon.replace(tzinfo=None))
    said = (await bridge.history("web:1")).entries
    assert [entry.event.occurred_at for entry in said] == [1_777_636_800_000_000] * 2
    for seconds in (1_777_636_800, 1_777_636_800_000, True, "now"):
        with pytest.raises(InvalidEvent, match="datetime"):
            await bridge.received("web:1", "c", occurred_at=seconds)  # type: ignore[arg-type]
