from __future__ import annotations

from typing import Any

import pytest

from consumers.senders.http_client import HttpLimits
from consumers.senders.sender import Delivery, Receipt
from consumers.senders.telegram import TelegramSender
from eventlog import Attachment, MessageQueued
from eventlog.errors import ConfigurationError, SendFailed
from tests.platforms import Answer, Behaviour, Cut, Drip, Platform

TOKEN = "4711:AAH-token_of_the_bot"
TAKEN = Answer(200, {"ok": True, "result": {"message_id": 99, "chat": {"id": 42}, "text": "hi"}})


def refusal(code: int, description: str, **parameters: object) -> Answer:
    """Return an error as the Bot API words it."""
    body: dict[str, Any] = {"ok": False, "error_code": code, "description": description}
    return Answer(code, {**body, "parameters": parameters} if parameters else body)


def message(**fields: Any) -> MessageQueued:
    return MessageQueued(**{"conversation": "telegram:42", "id": "m1", "text": "hi", **fields})


async def sent(*behaviours: Behaviour, **fields: Any) -> tuple[Receipt, list[Any]]:
    """Return the receipt for a message and the requests made for it."""
    async with Platform(*behaviours) as platform:
        sender = TelegramSender(TOKEN, base_url=platform.url)
        receipt = await sender.send(message(**fields), Delivery("m1", attempt=1))
        await sender.close()
    assert {request.path for request in platform.requests} == {f"/bot{TOKEN}/sendMessage"}
    return receipt, [request.json for request in platform.requests]


async def failed(*behaviours: Behaviour, limits: HttpLimits | None = None) -> SendFailed:
    """Return what a message fails with."""
    async with Platform(*behaviours) as platform:
        sender = TelegramSender(TOKEN, base_url=platform.url, limits=limits)
        with pytest.raises(SendFailed) as caught:
            await sender.send(message(), Delivery("m1", attempt=1))
        await sender.close()
    return caught.value


class TestTheRequest:
    async def test_is_the_text_to_the_chat_of_the_conversation(self):
        receipt, requests = await sent(TAKEN)
        assert receipt == Receipt("99")
        assert requests == [{"chat_id": 42, "text": "hi"}]

    @pytest.mark.parametrize(
        ("recipient", "chat_id"),
        [("77", 77), ("-1001234567890", -1001234567890), ("@news", "@news"), ("9" * 30, "9" * 30)],
    )
    async def test_goes_to_the_recipient_where_one_is_named(self, recipient, chat_id):
        _, [request] = await sent(TAKEN, recipient=recipient)
        assert request["chat_id"] == chat_id

    @pytest.mark.parametrize("reply_to", ["7", "telegram:42:7"])
    async def test_replies_and_does_not_depend_on_what_it_replies_to(self, reply_to):
        _, [request] = await sent(TAKEN, reply_to=reply_to)
        assert request["reply_parameters"] == {
            "message_id": 7,
            "allow_sending_without_reply": True,
        }

    @pytest.mark.parametrize("reply_to", ["", "the last one", "telegram:"])
    async def test_is_no_reply_to_what_is_no_message_of_telegram(self, reply_to):
        _, [request] = await sent(TAKEN, reply_to=reply_to)
        assert "reply_parameters" not in request

    async def test_names_attachments_by_their_urls(self):
        files = [Attachment(url="https://files.example/a"), Attachment(url="https://b.example/")]
        _, [request] = await sent(TAKEN, attachments=files)
        assert request["text"] == "hi\nhttps://files.example/a\nhttps://b.example/"

    async def test_is_not_made_without_a_chat(self):
        async with Platform(TAKEN) as platform:
            sender = TelegramSender(TOKEN, base_url=platform.url)
            with pytest.raises(SendFailed) as caught:
                await sender.send(message(conversation="nobody"), Delivery("m1", attempt=1))
            await sender.close()
        assert (caught.value.reason, caught.value.permanent) == ("no_recipient", True)
        assert platform.requests == []

    async def test_goes_to_a_server_of_one_s_own(self):
        async with Platform(TAKEN) as platform:
            sender = TelegramSender(TOKEN, base_url=f"{platform.url}/telegram/")
            await sender.send(message(), Delivery("m1", attempt=1))
            await sender.close()
        assert platform.requests[0].path == f"/telegram/bot{TOKEN}/sendMessage"


@pytest.mark.parametrize("result", [{}, True, None, [], {"message_id": None}])
async def test_ok_is_a_yes_whatever_is_said_of_the_message(result):
    assert await sent(Answer(200, {"ok": True, "result": result})) == (
        Receipt(),
        [{"chat_id": 42, "text": "hi"}],
    )


@pytest.mark.parametrize(
    ("code", "description", "reason"),
    [
        (400, "Bad Request: chat not found", "chat_not_found"),
        (400, "Bad Request: PEER_ID_INVALID", "chat_not_found"),
        (400, "Bad Request: message is too long", "too_long"),
        (400, "Bad Request: message text is empty", "empty"),
        (400, "Bad Request: text must be non-empty", "empty"),
        (400, "Bad Request: not enough rights to send text messages to the chat", "no_rights"),
        (400, "Bad Request: have no rights to send a message", "no_rights"),
        (400, "Bad Request: group chat was upgraded to a supergroup chat", "chat_migrated"),
        (400, "Bad Request: something new", "bad_request"),
        (403, "Forbidden: bot was blocked by the user", "blocked"),
        (403, "Forbidden: bot was kicked from the supergroup chat", "kicked"),
        (403, "Forbidden: bot is not a member of the channel chat", "kicked"),
        (403, "Forbidden: user is deactivated", "deactivated"),
        (403, "Forbidden: bot can't initiate conversation with a user", "not_started"),
        (403, "Forbidden: something new", "forbidden"),
        (413, "Request Entity Too Large", "too_large"),
    ],
)
async def test_what_will_never_be_taken_is_permanent(code, description, reason):
    error = await failed(refusal(code, description))
    assert (error.reason, error.permanent, error.status) == (reason, True, str(code))
    assert str(error) == f"Telegram answered {code}: {description}."


@pytest.mark.parametrize(("code", "said"), [(401, "Unauthorized"), (404, "Not Found")])
async def test_a_bad_token_is_not_the_message_s_fault(code, said):
    error = await failed(refusal(code, said))
    assert (error.reason, error.permanent) == ("unauthorized", False)
    assert "token" in error.remedy


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (
            refusal(409, "Conflict: terminated by other getUpdates request"),
            "conflict",
        ),
        (refusal(500, "Internal Server Error: sent message was not found"), "server_error"),
        (Answer(502, "<html><h1>502 Bad Gateway</h1></html>"), "server_error"),
        (Answer(504, ""), "server_error"),
        (Answer(200, "<html>Sign in to this network</html>"), "invalid_reply"),
        (Answer(200, ""), "invalid_reply"),
        (Answer(200, "null"), "invalid_reply"),
        (Answer(200, {"ok": "yes"}), "invalid_reply"),
        (Answer(200, {"ok": True, "pad": "x" * 70_000}), "invalid_reply"),
        (Answer(403, "<html>a proxy says no</html>"), "invalid_reply"),
        (Answer(302, "", {"Location": "https://elsewhere.example/"}), "invalid_reply"),
        (Cut(TAKEN, after_bytes=20), "connection_lost"),
        (Cut(refusal(403, "Forbidden: bot was blocked"), after_bytes=20), "connection_lost"),
    ],
)
async def test_what_may_pass_is_tried_again(answer, reason):
    error = await failed(answer)
    assert (error.reason, error.permanent) == (reason, False)


async def test_a_reply_that_comes_too_slowly():
    error = await failed(Drip(TAKEN), limits=HttpLimits(total_timeout_s=0.2))
    assert (error.reason, error.permanent) == ("timeout", False)


class TestTooManyRequests:
    async def test_says_how_long_to_wait(self):
        error = await failed(refusal(429, "Too Many Requests: retry after 35", retry_after=35))
        assert (error.reason, error.permanent) == ("rate_limited", False)
        assert error.retry_after_s == 35

    @pytest.mark.parametrize(
        ("parameters", "wait_s"),
        [
            ({"retry_after": 10**12}, 24 * 3600),
            ({"retry_after": -1}, None),
            ({"retry_after": "35"}, None),
            ({"retry_after": True}, None),
            ({}, None),
        ],
    )
    async def test_is_not_believed_without_measure(self, parameters, wait_s):
        error = await failed(refusal(429, "Too Many Requests", **parameters))
        assert error.retry_after_s == wait_s

    async def test_may_come_from_something_in_between(self):
        error = await failed(Answer(429, "<html>easy</html>", {"Retry-After": "3"}))
        assert (error.reason, error.retry_after_s) == ("rate_limited", 3)


class TestAGroupThatBecameASupergroup:
    MOVED = refusal(
        400,
        "Bad Request: group chat was upgraded to a supergroup chat",
        migrate_to_chat_id=-100777,
    )

    async def test_gets_the_message_under_its_new_id(self):
        receipt, requests = await sent(self.MOVED, TAKEN, reply_to="7")
        assert receipt == Receipt("99")
        assert [request["chat_id"] for request in requests] == [42, -100777]
        assert requests[0] == {**requests[1], "chat_id": 42}

    async def test_that_fails_too_fails_as_the_new_one_says(self):
        error = await failed(self.MOVED, refusal(403, "Forbidden: bot was kicked from the group"))
        assert error.reason == "kicked"

    async def test_is_not_followed_for_ever(self):
        error = await failed(self.MOVED)
        assert (error.reason, error.permanent) == ("chat_migrated", True)


@pytest.mark.parametrize("token", ["", " 4711:hush", "4711:hush\n", "4711:hush/getMe?x", "47 hush"])
def test_what_is_no_token_is_refused_and_not_shown(token):
    with pytest.raises(ConfigurationError) as caught:
        TelegramSender(token)
    assert "hush" not in str(caught.value)


def test_it_shows_where_it_sends_to_and_no_more():
    assert repr(TelegramSender(TOKEN)) == "TelegramSender('https://api.telegram.org')"
