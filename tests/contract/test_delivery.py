"""Deliveries: what is queued reaches its platform, in order, and what became of it is in the log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from consumers import DeliveryHandlers, Worker
from consumers.senders.sender import Delivery, Receipt
from consumers.senders.webhook import WebhookSender
from eventlog import EventLog, MessageQueued, MessageSent
from eventlog.errors import SendFailed
from eventlog.vocabulary import Attachment, DeadLetterParked, DeliveryFailed
from tests.platforms import Answer, Cut, Platform
from tests.support import eventually
from tests.working import QUICK, all_handled, at_work, events, nothing_is_left

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Recorded:
    """A sender that notes what it is given, and fails as it is told: by text, an error each time."""

    def __init__(self, **errors: list[Exception]) -> None:
        self.sent: list[str] = []
        self.tried: list[tuple[str, str, int]] = []
        self.is_closed = False
        self._errors = errors

    async def send(self, message: MessageQueued, delivery: Delivery) -> Receipt:
        self.tried.append((message.text, delivery.idempotency_key, delivery.attempt))
        if errors := self._errors.get(message.text):
            raise errors.pop(0)
        self.sent.append(message.text)
        return Receipt(f"platform-{len(self.sent)}")

    async def close(self) -> None:
        self.is_closed = True


def busy(count: int) -> list[Exception]:
    return [SendFailed("busy.", reason="busy", status="503") for _ in range(count)]


def queued(text: str, conversation: str = "chat:1", **fields: Any) -> MessageQueued:
    return MessageQueued(conversation=conversation, text=text, **fields)


async def deliver(log: EventLog, handlers: DeliveryHandlers) -> None:
    worker = Worker(log, "delivery", handlers)
    async with at_work(worker):
        await all_handled(worker)
    await nothing_is_left(log, "delivery")


async def test_a_message_that_was_taken_is_sent(log):
    sender = Recorded()
    message = queued(
        "hello",
        session="s",
        sender="bot",
        reply_to="991",
        correlation_id="k",
        attachments=[Attachment(url="https://x.invalid/a")],
        metadata={"a": 1},
    )
    await log.append(message)
    await deliver(log, DeliveryHandlers({"chat": sender}))
    [sent] = await events(log, MessageSent)
    assert (sent.message_id, sent.delivery, sent.attempt) == ("platform-1", message.id, 1)
    assert (sent.text, sent.session, sent.sender, sent.reply_to) == ("hello", "s", "bot", "991")
    assert (sent.causation_id, sent.correlation_id) == (message.id, "k")
    assert (sent.platform, sent.attachments, sent.metadata) == (
        "chat", message.attachments, {"a": 1},
    )  # fmt: skip


async def test_each_failed_attempt_is_recorded_and_order_is_kept(log):
    sender = Recorded(b=busy(2))
    await log.append([queued(text) for text in "abc"])
    await log.append([queued(f"other {text}", "chat:2") for text in "abc"])
    await deliver(log, DeliveryHandlers({"chat": sender}, retry=QUICK))
    assert [text for text in sender.sent if len(text) == 1] == ["a", "b", "c"]
    failed = await events(log, DeliveryFailed)
    assert [each.attempt for each in failed] == [1, 2]
    assert {(each.reason, each.code, each.permanent) for each in failed} == {("busy", "503", False)}
    [b] = {key for text, key, _ in sender.tried if text == "b"}
    assert [attempt for text, _, attempt in sender.tried if text == "b"] == [1, 2, 3]
    assert {each.delivery for each in failed} == {b}
    assert {each.recipient for each in failed} == {"1"}
    assert await events(log, DeadLetterParked) == []


async def test_one_that_is_given_up_is_parked(log):
    sender = Recorded(a=busy(3))
    await log.append([queued("a", recipient="you", reply_to="5"), queued("b")])
    await deliver(log, DeliveryHandlers({"chat": sender}, retry=QUICK))
    assert sender.sent == ["b"]
    [letter] = await events(log, DeadLetterParked)
    assert (letter.group, letter.reason, letter.attempts) == ("delivery", "busy", 3)
    assert (letter.text, letter.recipient, letter.reply_to) == ("a", "you", "5")
    assert [each.attempt for each in await events(log, DeliveryFailed)] == [1, 2, 3]


async def test_a_platform_that_has_no_sender(log):
    await log.append([queued("a", "pigeon:7"), queued("b")])
    sender = Recorded()
    await deliver(log, DeliveryHandlers({"chat": sender}))
    [letter] = await events(log, DeadLetterParked)
    assert (letter.reason, letter.attempts) == ("no_sender", 1)
    assert "'pigeon'" in letter.error
    [failed] = await events(log, DeliveryFailed)
    assert (failed.permanent, failed.platform) == (True, "pigeon")
    assert sender.sent == ["b"]


async def test_the_platform_that_a_message_names_comes_first(log):
    chat, mail = Recorded(), Recorded()
    await log.append([queued("a"), queued("b", platform="mail")])
    await deliver(log, DeliveryHandlers({"chat": chat, "mail": mail}))
    assert (chat.sent, mail.sent) == (["a"], ["b"])


async def test_an_error_that_no_sender_should_raise(log):
    await log.append(queued("a"))
    handlers = DeliveryHandlers({"chat": Recorded(a=[KeyError("x")])}, retry=QUICK)
    await deliver(log, handlers)
    [failed] = await events(log, DeliveryFailed)
    assert (failed.reason, failed.code, failed.error) == ("KeyError", None, "KeyError: 'x'")
    assert len(await events(log, MessageSent)) == 1


async def test_closing_closes_the_senders():
    one, other = Recorded(), Recorded()
    await DeliveryHandlers({"a": one, "b": other}).close()
    assert one.is_closed
    assert other.is_closed


class TestWebhooks:
    @pytest.fixture
    def handlers_of(self) -> Callable[[Platform], DeliveryHandlers]:
        def handlers_of(platform: Platform) -> DeliveryHandlers:
            return DeliveryHandlers({"chat": WebhookSender(platform.url, SECRET)}, retry=QUICK)

        return handlers_of

    async def test_it_is_taken_once(self, log, handlers_of):
        messages = [queued(text) for text in "abc"]
        await log.append(messages)
        async with Platform(Answer(200)) as platform:
            handlers = handlers_of(platform)
            await deliver(log, handlers)
            await handlers.close()
        assert platform.taken == {each.id: 1 for each in messages}

    async def test_forbidden_parks_at_once(self, log, handlers_of):
        await log.append(queued("a"))
        async with Platform(Answer(403)) as platform:
            handlers = handlers_of(platform)
            await deliver(log, handlers)
            await handlers.close()
        assert len(platform.requests) == 1
        [failed] = await events(log, DeliveryFailed)
        assert (failed.code, failed.permanent) == ("403", True)
        assert len(await events(log, DeadLetterParked)) == 1

    async def test_too_many_waits_as_long_as_it_is_told(self, log, handlers_of):
        await log.append([queued("a"), queued("b")])
        async with Platform(Answer(429, headers={"Retry-After": "600"}), Answer(200)) as platform:
            handlers = handlers_of(platform)
            worker = Worker(log, "delivery", handlers)

            async def is_blocked() -> bool:
                return (await worker.status()).blocked_count == 1

            async with at_work(worker):
                await eventually(is_blocked)
                [due_ms] = [
                    each.next_due_ms
                    for each in (await worker.status()).partitions
                    if each.next_due_ms
                ]
                assert 590_000 < due_ms - log.clock.now_us() // 1000 <= 600_000
            assert len(platform.requests) == 1
            await handlers.close()

    async def test_a_reply_that_was_lost_is_asked_for_with_the_same_key(self, log, handlers_of):
        message = queued("a")
        await log.append(message)
        async with Platform(Cut(Answer(200)), Answer(200)) as platform:
            handlers = handlers_of(platform)
            await deliver(log, handlers)
            await handlers.close()
        assert platform.received == {message.id: 2}
        [sent] = await events(log, MessageSent)
        assert sent.attempt == 2
