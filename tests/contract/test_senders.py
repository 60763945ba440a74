"""What holds for every sender, the one of the how-to page included, however the platform behaves."""

from __future__ import annotations

import asyncio
import gzip
import logging
import socket
import ssl
import traceback
from typing import NamedTuple

import pytest

from consumers.senders.http_client import HttpLimits
from consumers.senders.sender import Delivery, Receipt, Sender
from consumers.senders.telegram import TelegramSender
from consumers.senders.webhook import WebhookSender
from eventlog import MessageQueued
from eventlog.errors import SendFailed
from tests.docs.pages import ROOT, blocks, new_namespace
from tests.platforms import Answer, Cut, Drip, Garbage, Hold, Platform

SECRET = "4711:AAH-dont_tell_anyone"
MESSAGE = MessageQueued(conversation="chat:12345", id="m1", text="hello")
FIRST = Delivery("m1", attempt=1)


def limits_for(behaviour: object) -> HttpLimits:
    """Return little patience only where nothing else ends the wait: the machine may be busy."""
    is_slow = isinstance(behaviour, Hold | Drip)
    return HttpLimits(total_timeout_s=0.2 if is_slow else 30, max_reply_bytes=1000)


class Kind(NamedTuple):
    """A sender and how its platform says that it took message 7."""

    name: str
    taken: Answer

    def make(self, url: str, limits: HttpLimits | None = None) -> Sender:
        if self.name == "webhook":
            return WebhookSender(f"{url}/hook/{SECRET}?key={SECRET}", SECRET, limits=limits)
        if self.name == "telegram":
            return TelegramSender(SECRET, base_url=url, limits=limits)
        return discord_sender()(SECRET, base_url=url, limits=limits)


def discord_sender():
    """Return the class of the how-to page."""
    page = new_namespace("page_sender")
    first, *_ = blocks(ROOT / "docs" / "howto" / "write-a-sender.md")
    exec(first.text, page)
    return page["DiscordSender"]


KINDS = [
    Kind("webhook", Answer(200, {"message_id": "7"})),
    Kind("telegram", Answer(200, {"ok": True, "result": {"message_id": 7}})),
    Kind("discord", Answer(200, {"id": "7"})),
]


@pytest.fixture(params=KINDS, ids=[kind.name for kind in KINDS])
def kind(request):
    return request.param


async def failure(sender: Sender) -> SendFailed:
    """Return what a send fails with."""
    with pytest.raises(SendFailed) as caught:
        await sender.send(MESSAGE, FIRST)
    return caught.value


async def test_a_message_that_is_taken_has_the_platform_s_id(kind):
    async with Platform(kind.taken) as platform:
        sender = kind.make(platform.url)
        assert await sender.send(MESSAGE, FIRST) == Receipt("7")
        await sender.close()
    [request] = platform.requests
    assert request.method == "POST"
    assert request.headers["content-type"] == "application/json"


NO_REPLY = [
    (Cut(), "connection_lost"),
    (Garbage(b""), "connection_lost"),
    (Garbage(b"HTTP/1.1 20"), "connection_lost"),
    (Garbage(), "invalid_reply"),
    (Garbage(b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n"), "invalid_reply"),
    (Garbage(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000), "invalid_reply"),
    (Hold(), "timeout"),
]


@pytest.mark.parametrize(("behaviour", "reason"), NO_REPLY)
async def test_without_a_reply_it_is_tried_again(kind, behaviour, reason):
    async with Platform(behaviour, kind.taken) as platform:
        sender = kind.make(platform.url, limits_for(behaviour))
        failed = await failure(sender)
        assert (failed.reason, failed.permanent, failed.status) == (reason, False, None)
        assert await sender.send(MESSAGE, FIRST) == Receipt("7")
        await sender.close()


async def test_nobody_there(kind):
    async with Platform(kind.taken) as platform:
        sender = kind.make(platform.url)
        async with platform.refusing():
            failed = await failure(sender)
        assert (failed.reason, failed.permanent) == ("unreachable", False)
        assert str(failed) == f"{platform.url} could not be connected to (connection refused)."
        assert await sender.send(MESSAGE, FIRST) == Receipt("7")
        await sender.close()


async def test_a_host_that_does_not_exist(kind):
    sender = kind.make("http://nowhere.invalid")
    assert (await failure(sender)).reason == "unreachable"
    await sender.close()


@pytest.mark.parametrize(
    "behaviour",
    [
        Answer(500, "<html>oops</html>"),
        Answer(502, b"\xff\xfe"),
        Answer(503, b""),
        Answer(503, b"x" * 5000),
        Cut(Answer(500, "oops"), after_bytes=2),
        Drip(Answer(500, "x" * 100)),
    ],
)
async def test_a_platform_in_trouble_is_tried_again(kind, behaviour):
    async with Platform(behaviour) as platform:
        sender = kind.make(platform.url, limits_for(behaviour))
        failed = await failure(sender)
        assert (failed.reason, failed.permanent) == ("server_error", False)
        assert failed.status in ("500", "502", "503")
        await sender.close()


@pytest.mark.parametrize("status", [429, 503])
async def test_the_wait_asked_for_is_told(kind, status):
    async with Platform(Answer(status, "later", {"Retry-After": "17"})) as platform:
        sender = kind.make(platform.url)
        failed = await failure(sender)
        assert (failed.permanent, failed.retry_after_s) == (False, 17)
        await sender.close()


async def test_redirects_are_not_followed(kind):
    async with Platform() as elsewhere:
        away = Answer(307, "", {"Location": f"{elsewhere.url}/{SECRET}"})
        async with Platform(away) as platform:
            sender = kind.make(platform.url)
            failed = await failure(sender)
            assert (failed.permanent, failed.status) == (False, "307")
            await sender.close()
    assert elsewhere.requests == []


async def test_what_is_packed_is_not_unpacked(kind):
    packed = gzip.compress(b"x" * 500)
    async with Platform(Answer(500, packed, {"Content-Encoding": "gzip"})) as platform:
        sender = kind.make(platform.url)
        assert "xxx" not in str(await failure(sender))
        await sender.close()
    assert platform.requests[0].headers["accept-encoding"] == "identity"


async def test_cookies_are_not_kept(kind):
    async with Platform(Answer(500, "", {"Set-Cookie": "a=b"}), kind.taken) as platform:
        sender = kind.make(platform.url.replace("127.0.0.1", "localhost"))
        await failure(sender)
        await sender.send(MESSAGE, FIRST)
        await sender.close()
    assert "cookie" not in platform.requests[1].headers


async def test_cancelled_it_ends_at_once(kind):
    async with Platform(Hold(), kind.taken) as platform:
        sender = kind.make(platform.url)
        task = asyncio.create_task(sender.send(MESSAGE, FIRST))
        await platform.requested()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await sender.send(MESSAGE, FIRST) == Receipt("7")
        await sender.close()


async def test_closed_while_it_waits(kind):
    async with Platform(Hold()) as platform:
        sender = kind.make(platform.url)
        task = asyncio.create_task(failure(sender))
        await platform.requested()
        await sender.close()
        failed = await task
        assert (failed.reason, failed.permanent) == ("connection_lost", False)


async def test_many_at_once(kind):
    async with Platform(Hold(kind.taken)) as platform:
        sender = kind.make(platform.url)
        sends = [asyncio.create_task(sender.send(MESSAGE, FIRST)) for _ in range(110)]
        await platform.requested(110)
        platform.release()
        assert set(await asyncio.gather(*sends)) == {Receipt("7")}
        await sender.close()


async def test_a_connection_serves_one_message_after_another(kind):
    async with Platform(kind.taken) as platform:
        sender = kind.make(platform.url)
        for _ in range(3):
            await sender.send(MESSAGE, FIRST)
        await sender.close()
    assert len(platform.client_ports) == 1


@pytest.mark.parametrize("closes", [True, False], ids=["closed", "left open"])
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of the connection that was left open
def test_it_serves_one_loop_after_another(kind, closes):
    senders = []

    async def once(port: int) -> int:
        async with Platform(kind.taken, port=port) as platform:
            senders.append(senders[0] if senders else kind.make(platform.url))
            assert await senders[0].send(MESSAGE, FIRST) == Receipt("7")
            if closes:
                await senders[0].close()
            return platform.port

    port = asyncio.run(once(0))
    asyncio.run(once(port))
    asyncio.run(senders[0].close())


async def test_closing_twice_or_unused_is_nothing(kind):
    sender = kind.make("http://127.0.0.1:9")
    await sender.close()
    await sender.close()


def quoting(request):
    """Answer as a platform that throws all it got back at the sender."""
    return Answer(400, f"Cannot POST {request.path} {dict(request.headers)}")


@pytest.mark.parametrize(
    "behaviour",
    [
        quoting,
        Answer(400, {"ok": False, "error_code": 400, "description": f"no: /bot{SECRET}/x"}),
        Answer(404, f"no such path: /{SECRET.replace(':', '%3A')}/"),
        Answer(500, f"proxy error: {SECRET}"),
        Answer(302, "", {"Location": f"/{SECRET}"}),
        *(behaviour for behaviour, _ in NO_REPLY),
    ],
)
async def test_secrets_are_nowhere_to_be_seen(kind, behaviour, caplog):
    caplog.set_level(logging.DEBUG)
    async with Platform(behaviour) as platform:
        sender = kind.make(platform.url, limits_for(behaviour))
        failed = await failure(sender)
        shown = "".join(traceback.format_exception(failed)) + repr(failed) + str(failed.remedy)
        await sender.close()
    assert failed.__cause__ is None
    assert failed.__context__ is None
    for piece in (SECRET, SECRET.replace(":", "%3A"), "dont_tell"):
        assert piece not in shown + caplog.text + repr(sender)


async def test_a_certificate_that_nobody_vouches_for(kind, tmp_path):
    (tmp_path / "server.pem").write_text(SELF_SIGNED)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "server.pem")
    async with Platform(tls=tls) as platform:
        sender = kind.make(platform.url)
        failed = await failure(sender)
        assert (failed.reason, failed.permanent) == ("untrusted", False)
        assert failed.remedy
        await sender.close()
    assert platform.requests == []


async def test_a_connection_that_does_not_come_about_in_time(kind):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # says no word of TLS
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        sender = kind.make(url, HttpLimits(connect_timeout_s=0.05))
        assert (await failure(sender)).reason == "unreachable"
        await sender.close()


SELF_SIGNED = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgoRzj1zhchigU6W3G
SKpFCwLdrFLJViUH/X29z1MSHVuhRANCAASk2MdVmQkNE8BTEQZFcoNu6UFPiy28
eMA2YT4jo6gXNc0Sp/kdF1NvgSzO1dDKpTnm0fwl51c7BHHk/VM2Ruxb
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBjzCCATagAwIBAgIUBbrZDeNqCZAAqo22dpLkePkaOl8wCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJMTI3LjAuMC4xMCAXDTI2MTEyMDIzMTg1M1oYDzIxMjYxMDI3
MjMxODUzWjAUMRIwEAYDVQQDDAkxMjcuMC4wLjEwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAASk2MdVmQkNE8BTEQZFcoNu6UFPiy28eMA2YT4jo6gXNc0Sp/kdF1Nv
gSzO1dDKpTnm0fwl51c7BHHk/VM2Ruxbo2QwYjAdBgNVHQ4EFgQUxN62yP73Wqka
x22Xjm3aZ5o1hFkwHwYDVR0jBBgwFoAUxN62yP73Wqkax22Xjm3aZ5o1hFkwDwYD
VR0TAQH/BAUwAwEB/zAPBgNVHREECDAGhwR/AAABMAoGCCqGSM49BAMCA0cAMEQC
IBeegkvsN6w/eGi0XWETx8y7gSeiuGXVJheGwxObKIaCAiAX9a+3hAsOMDC3gwE5
ST6iIbYs5p3Zo4ywhFSkElW2JQ==
-----END CERTIFICATE-----
"""
"""Of a server 127.0.0.1; made for this test and trusted by nobody."""
