from __future__ import annotations

import msgspec
import pytest

from consumers.senders.http_client import HttpLimits
from consumers.senders.sender import Delivery, Receipt
from consumers.senders.signature import verify
from consumers.senders.webhook import WebhookSender
from eventlog import Attachment, Codec, MessageQueued
from eventlog.clock import SystemClock
from eventlog.errors import ConfigurationError, SendFailed
from tests.platforms import Answer, Cut, Drip, Platform

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NOW_US = 1_700_000_000_000_000
MESSAGE = MessageQueued(
    conversation="web:42",
    id="m1",
    text="grüße",
    reply_to="99",
    attachments=[Attachment(url="https://files.example/a.png")],
    metadata={"mood": "good"},
)


class SetClock(SystemClock):
    def now_us(self) -> int:
        return NOW_US


def sender_to(platform: Platform, limits: HttpLimits | None = None) -> WebhookSender:
    return WebhookSender(f"{platform.url}/hook", SECRET, limits=limits, clock=SetClock())


async def outcome(
    *behaviours: object, message: MessageQueued = MESSAGE, limits: HttpLimits | None = None
) -> Receipt | SendFailed:
    """Return what comes of one message to an endpoint that behaves like that."""
    async with Platform(*behaviours) as platform:
        sender = sender_to(platform, limits)
        try:
            return await sender.send(message, Delivery(message.id, attempt=1))
        except SendFailed as failed:
            return failed
        finally:
            await sender.close()


class TestTheRequest:
    async def test_is_the_event_with_its_recipient_signed(self):
        async with Platform() as platform:
            sender = sender_to(platform)
            await sender.send(MESSAGE, Delivery("m1", attempt=1))
            await sender.close()
        [request] = platform.requests
        assert request.path == "/hook"
        assert request.headers["webhook-id"] == "m1"
        assert request.headers["webhook-timestamp"] == "1700000000"
        assert verify(SECRET, request.headers, request.body, NOW_US)
        expected = msgspec.structs.replace(MESSAGE, recipient="42")
        assert Codec().decode(request.body) == expected

    async def test_is_the_same_at_every_attempt(self):
        async with Platform(Answer(500), Answer(200)) as platform:
            sender = sender_to(platform)
            with pytest.raises(SendFailed):
                await sender.send(MESSAGE, Delivery("m1", attempt=1))
            await sender.send(MESSAGE, Delivery("m1", attempt=2))
            await sender.close()
        assert len({(r.body, r.headers["webhook-id"]) for r in platform.requests}) == 1
        assert platform.received == {"m1": 2}
        assert platform.taken == {"m1": 1}

    @pytest.mark.parametrize(
        ("key", "header"),
        [
            ("telegram:42:7", "telegram:42:7"),
            ("чат 7", "%D1%87%D0%B0%D1%82%207"),
            ("a\r\nEvil: yes", "a%0D%0AEvil:%20yes"),
            ("100%", "100%25"),
        ],
    )
    async def test_any_id_fits_the_header(self, key, header):
        async with Platform() as platform:
            sender = sender_to(platform)
            await sender.send(MESSAGE, Delivery(key, attempt=1))
            await sender.close()
        [request] = platform.requests
        assert request.headers["webhook-id"] == header
        assert "evil" not in request.headers
        assert verify(SECRET, request.headers, request.body, NOW_US)

    async def test_a_recipient_is_not_needed(self):
        message = MessageQueued(conversation="everybody", id="m1", text="hi")
        assert await outcome(Answer(200), message=message) == Receipt()


class TestYes:
    @pytest.mark.parametrize("status", [200, 201, 202, 204])
    async def test_is_any_2xx(self, status):
        assert await outcome(Answer(status)) == Receipt()

    @pytest.mark.parametrize(
        ("body", "message_id"),
        [
            ({"message_id": "abc"}, "abc"),
            ({"message_id": 7}, "7"),
            ({"message_id": True}, None),
            ({"message_id": ""}, None),
            ({"message_id": {"a": 1}}, None),
            ({"message_id": 1.5}, None),
            ({"id": "abc"}, None),
            (["message_id"], None),
            ("<html>thanks</html>", None),
            (b"\xff\xfe\x00", None),
            ('{"message_id": "\\ud800"}', None),
            ("[" * 50_000, None),
            ("1" * 50_000, None),
        ],
    )
    async def test_tells_the_id_where_there_is_one(self, body, message_id):
        assert await outcome(Answer(200, body)) == Receipt(message_id)

    @pytest.mark.parametrize(
        "behaviour",
        [
            Answer(200, "x" * 5000),
            Cut(Answer(200, {"message_id": "abc"}), after_bytes=5),
            Drip(Answer(200, "x" * 100)),
        ],
    )
    async def test_stays_one_whatever_becomes_of_its_body(self, behaviour):
        limits = HttpLimits(total_timeout_s=0.2, max_reply_bytes=1000)
        assert await outcome(behaviour, limits=limits) == Receipt()


class TestNo:
    @pytest.mark.parametrize(
        ("status", "reason", "permanent"),
        [
            (300, "redirected", False),
            (308, "redirected", False),
            (400, "refused", True),
            (401, "unauthorized", False),
            (403, "forbidden", True),
            (404, "not_found", True),
            (408, "timeout", False),
            (409, "conflict", False),
            (410, "gone", True),
            (413, "too_large", True),
            (418, "refused", True),
            (422, "refused", True),
            (425, "too_early", False),
            (429, "rate_limited", False),
            (500, "server_error", False),
            (503, "server_error", False),
            (599, "server_error", False),
            (666, "invalid_reply", False),
        ],
    )
    async def test_is_counted_by_its_status(self, status, reason, permanent):
        failed = await outcome(Answer(status))
        assert isinstance(failed, SendFailed)
        assert (failed.reason, failed.permanent) == (reason, permanent)
        assert failed.status == str(status)
        assert f"answered {status}" in str(failed)

    @pytest.mark.parametrize(
        ("header", "wait_s"),
        [
            ("0", None),
            ("1.5", 1.5),
            ("Tue, 14 Nov 2023 22:14:20 GMT", 60),
            ("Tue, 14 Nov 2023 22:13:00 GMT", None),
            ("999999999", 24 * 3600),
            ("soon", None),
        ],
    )
    async def test_tells_when_to_come_again(self, header, wait_s):
        said = {"Retry-After": header, "Date": "Tue, 14 Nov 2023 22:13:20 GMT"}
        failed = await outcome(Answer(503, "", said))
        assert isinstance(failed, SendFailed)
        assert failed.retry_after_s == wait_s

    async def test_quotes_a_line_of_what_was_said(self):
        failed = await outcome(Answer(422, "no such\r\n  user\x1b[31m " + "x" * 500))
        assert "answered 422: no such user [31m xxx" in str(failed)
        assert len(str(failed)) < 300


@pytest.mark.parametrize(
    "url",
    ["", "hook", "ftp://a.example/", "http://", "http://[::1/", "http://a:99999/", "http://a..b/"],
)
def test_what_is_no_url_is_refused(url):
    with pytest.raises(ConfigurationError, match="http://"):
        WebhookSender(url, SECRET)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_hush!hush!"])
def test_what_is_no_secret_is_refused_and_not_shown(secret):
    with pytest.raises(ConfigurationError) as caught:
        WebhookSender("http://a.example", secret)
    assert "hush" not in str(caught.value)


def test_it_shows_where_it_sends_to_and_no_more():
    sender = WebhookSender("https://ann:hush@a.example:8443/T0/hush-hush?k=hush", "hush")
    assert repr(sender) == "WebhookSender('https://a.example:8443')"
