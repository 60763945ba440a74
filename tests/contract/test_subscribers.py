"""Groups as subscribers of a bus, each at its own pace; jobs as work for one of them."""

from __future__ import annotations

import logging

import pytest

from consumers import Context, Handlers, Retry, Worker
from eventlog import EventLog, JobQueued, MessageReceived, MessageSent
from projections.views.dead_letters import DeadLetters


class Subscriber:
    """A group that notes what it is shown."""

    def __init__(self, log: EventLog, group: str) -> None:
        self.seen: list[str] = []
        self.worker = Worker(log, group)
        self.worker.on("message.received", "message.sent")(self._note)

    async def _note(self, event: MessageReceived | MessageSent, context: Context) -> None:  # noqa: ARG002
        self.seen.append(event.text)


async def say(log: EventLog, *texts: str) -> None:
    await log.append([MessageReceived(conversation="chat:1", text=text) for text in texts])


async def test_one_that_was_away_misses_nothing_and_others_do_not_wait_for_it(
    log: EventLog,
) -> None:
    history, logging = Subscriber(log, "history"), Subscriber(log, "logging")
    await say(log, "one", "two")
    await history.worker.run_once()
    await logging.worker.run_once()
    await say(log, "three")
    await log.append(MessageSent(conversation="chat:1", text="four"))
    await history.worker.run_once()
    assert history.seen == ["one", "two", "three", "four"]
    assert logging.seen == ["one", "two"]

    again = Subscriber(log, "logging")  # as after a restart
    await again.worker.run_once()
    assert again.seen == ["three", "four"]
    late = Subscriber(log, "late")
    await late.worker.run_once()
    assert late.seen == ["one", "two", "three", "four"]


async def test_one_that_only_listens_leaves_nothing_behind(log: EventLog) -> None:
    await say(log, "one")
    before = sorted([key async for key in log.client.scan_iter(f"*{log.keys.log}*")])
    tail = await log.tail("start")
    assert (await anext(tail)).event.text == "one"  # type: ignore[attr-defined]
    assert sorted([key async for key in log.client.scan_iter(f"*{log.keys.log}*")]) == before


async def test_a_callback_that_fails_is_logged_and_the_bus_goes_on(
    log: EventLog, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "eventlog")
    other, seen = Subscriber(log, "other"), list[str]()
    failing = Worker(log, "failing", Handlers(retry=Retry(attempts=2, first_delay_s=0)))

    @failing.on(MessageReceived)
    async def note(event: MessageReceived, context: Context) -> None:  # noqa: ARG001
        if event.text == "one":
            raise RuntimeError("a slip of the callback's")
        seen.append(event.text)

    await say(log, "one", "two")
    for worker in (failing, other.worker):
        await worker.run_once()
    assert (await failing.status()).lag_count == 0
    assert seen == ["two"]
    assert other.seen == ["one", "two"]
    told = [record.__dict__.get("event") for record in caplog.records]
    assert [each for each in told if each in ("attempt_failed", "entry_parked")] == [
        "attempt_failed",
        "entry_parked",
    ]
    assert "a slip of the callback's" in caplog.text


async def test_a_job_is_tried_so_often_and_then_parked_and_the_next_one_goes_on(
    log: EventLog,
) -> None:
    agents = Handlers(retry=Retry(attempts=2, first_delay_s=0))
    done: list[tuple[str | None, str, int]] = []

    @agents.on(JobQueued)
    async def work(job: JobQueued, context: Context) -> None:
        done.append((job.session, job.text, context.attempt))
        if job.text == "impossible":
            raise RuntimeError("no agent can do that")
        context.append(MessageSent(conversation=job.conversation, session=job.session, text="done"))

    base = {"conversation": "job:7", "session": "s-7", "agent": "coder"}
    await log.append([JobQueued(**base, text="impossible"), JobQueued(**base, text="easy")])
    worker = Worker(log, "agents", agents)
    await worker.run_once()
    assert (await worker.status()).lag_count == 0
    assert done == [("s-7", "impossible", 1), ("s-7", "impossible", 2), ("s-7", "easy", 1)]
    [letter] = (await DeadLetters(log).list(group="agents")).items
    assert (letter.attempts, letter.session, letter.text) == (2, "s-7", "impossible")
