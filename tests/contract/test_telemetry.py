"""What log lines say: the format, and which entry and which request they are about."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from consumers import DeliveryHandlers, Worker
from consumers.senders.sender import Delivery, Receipt
from consumers.senders.webhook import WebhookSender
from eventlog import MessageQueued, MessageSent
from eventlog.logs import get_logger
from service import telemetry
from tests.logs import message
from tests.platforms import Platform
from tests.working import QUICK, events

Lines = Callable[[], list[dict[str, Any]]]
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
def written(capsys: pytest.CaptureFixture[str]) -> Iterator[Lines]:
    """Give what the process wrote to its log, as a long-running command is set up."""
    said = ""
    structlog.reset_defaults()
    telemetry.configure_logs(logging.INFO, with_others=True)

    def lines() -> list[dict[str, Any]]:
        nonlocal said
        said += capsys.readouterr().err
        return [json.loads(line) for line in said.splitlines()]

    yield lines
    structlog.reset_defaults()
    logging.getLogger("eventlog").handlers.clear()
    logging.getLogger("eventlog").propagate = True
    root = logging.getLogger()
    root.handlers = [each for each in root.handlers if not isinstance(each, telemetry._Handler)]


async def test_every_line_of_a_handler_says_what_it_is_about(log, written):
    logging.getLogger("mybot").setLevel(logging.INFO)
    worker = Worker(log, "g")

    @worker.on("message.received", retry=QUICK)
    async def handle(_event, _context):
        logging.getLogger("mybot").info("stdlib %s", "line")
        structlog.get_logger("mybot.x").info("structlog_line", mood="good")
        get_logger("mine").info("ours", attempt="kept")

    sent = message("chat:1", "x", session="s1", correlation_id="req-1", causation_id="cause")
    entry = await log.append(sent)
    await worker.run_once()
    by_event = {line["event"]: line for line in written()}
    about = {
        "group": "g",
        "entry": f"{entry.partition}/{entry.id}",
        "attempt": 1,
        "event_id": sent.id,
        "conversation": "chat:1",
        "session": "s1",
        "causation_id": "cause",
        "correlation_id": "req-1",
    }
    for name in ("stdlib line", "structlog_line"):
        assert about.items() <= by_event[name].items()
        assert {"timestamp", "level", "logger"} <= by_event[name].keys()
    assert by_event["structlog_line"]["mood"] == "good"
    assert by_event["ours"]["attempt"] == "kept"
    assert "x" not in {str(value) for line in written() for value in line.values()}


async def test_a_plain_handler_s_thread_and_a_failure_say_it_too(log, written):
    worker = Worker(log, "g")

    @worker.on("message.received", retry=QUICK)
    def handle(_event, _context):
        logging.getLogger("mybot").warning("from a thread")
        raise ValueError("no")

    await log.append(message("chat:1", "x", correlation_id="req-2"))
    for _ in range(3):
        await worker.run_once()
        if any(line["event"] == "entry_parked" for line in written()):
            break
        await log.clock.sleep(QUICK.first_delay_s)
    lines = [line for line in written() if line.get("correlation_id") == "req-2"]
    assert {"from a thread", "attempt_failed"} <= {line["event"] for line in lines}


async def test_conversations_side_by_side_are_not_mixed_up(log, written):
    worker = Worker(log, "g")

    @worker.on("message.received")
    async def handle(event, _context):
        for _ in range(3):
            await log.ping()
            logging.getLogger("mybot").warning(event.text)

    await log.append([message(f"chat:{n}", f"chat:{n}") for n in range(30)])
    await worker.run_once()
    lines = [line for line in written() if line["logger"] == "mybot"]
    assert len(lines) == 90
    assert all(line["event"] == line["conversation"] for line in lines)
    get_logger("test").warning("outside")
    assert "conversation" not in written()[-1]


async def test_a_request_is_followed_through_append_handler_and_delivery(log, written):
    with structlog.contextvars.bound_contextvars(correlation_id="req-3"):
        get_logger("http").info("request")
        await log.append(message("web:1", "hi", correlation_id="req-3"))
    answers = Worker(log, "answers")

    @answers.on("message.received")
    async def answer(event, context):
        context.append(MessageQueued(conversation=event.conversation, text="hello"))

    await answers.run_once()
    async with Platform() as platform:
        sender = WebhookSender(f"{platform.url}/hook", SECRET)
        await Worker(log, "delivery", DeliveryHandlers({"web": sender})).run_once()
        await sender.close()
    [request] = platform.requests
    [queued], [sent] = await events(log, MessageQueued), await events(log, MessageSent)
    assert request.headers["x-correlation-id"] == "req-3"
    assert request.headers["webhook-id"] == queued.id
    assert queued.correlation_id == sent.correlation_id == "req-3"
    assert sent.causation_id == queued.id
    assert written()[0]["correlation_id"] == "req-3"


async def test_a_correlation_that_no_header_can_hold_is_encoded_and_none_is_left_out():
    async with Platform() as platform:
        sender = WebhookSender(f"{platform.url}/hook", SECRET)
        queued = MessageQueued(conversation="web:1", text="x")
        assert await sender.send(queued, Delivery("a", 1, "ü\r\nX-Evil: 1")) == Receipt()
        await sender.send(queued, Delivery("b", 1))
        await sender.close()
    first, second = platform.requests
    assert first.headers["x-correlation-id"] == "%C3%BC%0D%0AX-Evil:%201"
    assert "x-correlation-id" not in second.headers


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("given", "stream", "is_json"),
    [
        ("", io.StringIO, True),
        ("", Terminal, False),
        ("json", Terminal, True),
        ("text", io.StringIO, False),
        ("xml", io.StringIO, True),
    ],
)
def test_the_format_is_json_but_on_a_terminal_or_as_asked(monkeypatch, given, stream, is_json):
    made = stream()
    monkeypatch.setattr("sys.stderr", made)
    monkeypatch.setenv("EVENTLOG_LOG_FORMAT", given)
    telemetry.configure_logs(logging.INFO)
    get_logger("test").warning("something", n=1)
    logging.getLogger("eventlog").handlers.clear()
    lines = made.getvalue().splitlines()
    assert lines[-1].startswith("{") == is_json
    assert ("log_format_unknown" in lines[0]) == (given == "xml")


def test_no_password_of_a_url_is_in_a_line_of_others(written):
    try:
        raise ValueError("redis://bot:s3cret@db/0")
    except ValueError:
        logging.getLogger("library").exception("lost redis://bot:s3cret@db/0")
    [line] = written()
    assert "s3cret" not in json.dumps(line)
    assert "Traceback" in line["exception"]
