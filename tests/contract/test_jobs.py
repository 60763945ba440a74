"""Jobs for agents: where they stand, and how they end."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.jobs import queue_job
from consumers import Context, Retry, Worker
from eventlog import EventLog, JobQueued
from eventlog.errors import InvalidEvent
from projections.views.dead_letters import DeadLetters
from projections.views.sessions import Session

SESSION = Session("s-1", "telegram:42")


@pytest.mark.parametrize(
    ("arguments", "conversation", "session"),
    [
        ({"session": SESSION}, "telegram:42", "s-1"),
        ({"session": SESSION, "conversation": "c"}, "c", "s-1"),
        ({"session": "s-2"}, "s-2", "s-2"),
        ({"conversation": "telegram:7"}, "telegram:7", None),
        ({"idempotency_key": "ticket-9"}, "job:ticket-9", None),
    ],
)
async def test_a_job_stands_where_its_session_is(
    any_log: EventLog, arguments: dict[str, Any], conversation: str, session: str | None
) -> None:
    await queue_job(any_log, "coder", "fix it", mode="chat", metadata={"n": 1}, **arguments)
    [entry] = await any_log.read(conversation=conversation)
    job = entry.event
    assert isinstance(job, JobQueued)
    assert (job.agent, job.text, job.session) == ("coder", "fix it", session)
    assert (job.mode, job.metadata) == ("chat", {"n": 1})


async def test_with_a_key_of_its_own_a_job_is_queued_once(any_log: EventLog) -> None:
    first = await queue_job(any_log, "coder", "fix it", idempotency_key="ticket-9")
    again = await queue_job(any_log, "coder", "fix it", idempotency_key="ticket-9")
    assert (again.id, again.duplicate) == (first.id, True)
    others = [await queue_job(any_log, "coder", "fix it") for _ in range(2)]
    assert not any(each.duplicate for each in others)


@pytest.mark.parametrize(
    "arguments",
    [{"agent": ""}, {"mode": "dream"}, {"metadata": {"v": object()}}, {"text": b"bytes"}],
)
async def test_a_job_that_makes_no_sense_is_refused(
    any_log: EventLog, arguments: dict[str, Any]
) -> None:
    with pytest.raises(InvalidEvent):
        await queue_job(any_log, **{"agent": "coder", "text": "fix it"} | arguments)
    assert sum(head.n for head in await any_log.heads()) == 0


async def test_a_job_that_always_fails_ends_as_a_dead_letter_and_the_next_is_done(
    log: EventLog,
) -> None:
    worker = Worker(log, "agents")
    tried: list[tuple[str | None, str, str]] = []

    @worker.on(JobQueued, retry=Retry(attempts=3, first_delay_s=0))
    async def work(job: JobQueued, context: Context) -> None:  # noqa: ARG001
        tried.append((job.session, job.agent, job.text))
        if job.text == "impossible":
            raise RuntimeError("no agent can do that")

    for text in ("impossible", "easy"):
        await queue_job(log, "coder", text, session=SESSION)
    await worker.run_once()
    assert (await worker.status()).lag_count == 0
    assert tried == [("s-1", "coder", "impossible")] * 3 + [("s-1", "coder", "easy")]
    [letter] = (await DeadLetters(log).list(group="agents")).items
    assert (letter.attempts, letter.session, letter.text) == (3, "s-1", "impossible")
    assert letter.error is not None
    assert "no agent can do that" in letter.error
