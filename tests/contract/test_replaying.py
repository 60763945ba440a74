"""Replays run by a caller: every letter once, whoever else is at it and whoever dies."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from consumers.dead_letters import Letter, discard, persist_failed_delivery, request_replay
from consumers.replaying import ReplayReport, replay_dead_letters
from eventlog.errors import LogUnavailable, SendFailed
from eventlog.exclusive_lease import ExclusiveLease
from eventlog.lease import new_owner
from eventlog.log import EventLog
from eventlog.vocabulary import DeadLetterReplayed, DeadLetterReplayRequested, DeadLetterResolved
from projections.storing.memory_models import MemoryModels
from projections.views.dead_letters import DeadLetter, DeadLetters
from tests.contract.replaying_process import sender_to
from tests.support import eventually

TTL_MS = 400

Replay = Callable[..., Awaitable[ReplayReport]]


class Receiver:
    """Takes letters over a socket and counts them. It can refuse some, and hold all answers back."""

    def __init__(self) -> None:
        self.arrived: list[str] = []
        self.taken: Counter[str] = Counter()
        self.refused: set[str] = set()
        self.answers = asyncio.Event()
        self.answers.set()
        self.port = 0

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        letter = (await reader.readline()).decode().strip()
        self.arrived.append(letter)
        await self.answers.wait()
        if letter not in self.refused and not reader.at_eof():
            self.taken[letter] += 1
        writer.write(b"refused\n" if letter in self.refused else b"taken\n")
        writer.close()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    async with await asyncio.start_server(made.take, "127.0.0.1", 0) as server:
        made.port = server.sockets[0].getsockname()[1]
        yield made
        made.answers.set()


@pytest.fixture
async def quick(server_url: str, log: EventLog) -> AsyncIterator[EventLog]:
    """The same log as `log`, opened by somebody whose leases lapse soon."""
    async with EventLog.open(
        server_url, key_prefix=log.settings.key_prefix, lease_ttl_ms=TTL_MS
    ) as opened:
        yield opened


def letters_of(log: EventLog) -> DeadLetters:
    return DeadLetters(log, MemoryModels(log) if log.is_in_memory else None)


async def replay(log: EventLog, send: Any, **options: Any) -> ReplayReport:
    return await replay_dead_letters(log, send, letters_of(log).unsettled, **options)


async def park(log: EventLog, count: int, chat_count: int = 3) -> None:
    """Letters l0, l1, … dealt to the chats in turn."""
    for number in range(count):
        chat = f"chat:{number % chat_count}"
        await persist_failed_delivery(log, conversation=chat, text="t", letter=f"l{number}")


async def found(log: EventLog, name: str) -> DeadLetter:
    letter = await letters_of(log).get(name)
    assert letter is not None
    return letter


async def statuses(log: EventLog) -> dict[str, int]:
    return await letters_of(log).counts_by_status()


def recorder(sent: list[str], *failing: str) -> Callable[[Letter], Awaitable[None]]:
    async def send(letter: Letter) -> None:
        sent.append(letter.letter)
        if letter.letter in failing:
            raise SendFailed("no such chat.", reason="gone", permanent=True)

    return send


# --- one who replays -------------------------------------------------------------------------------


async def test_every_letter_is_sent_once_and_resolved(any_log):
    await park(any_log, 10)
    sent: list[str] = []
    assert await replay(any_log, recorder(sent)) == ReplayReport(10, 10, 0, 0)
    assert sorted(sent) == sorted(f"l{n}" for n in range(10))
    assert await statuses(any_log) == {"resolved": 10}
    assert await replay(any_log, recorder(sent)) == ReplayReport(0, 0, 0, 0)
    assert len(sent) == 10


async def test_what_is_sent_is_all_of_the_letter(any_log):
    await persist_failed_delivery(
        any_log, conversation="chat:1", text="ж" * 20_000, reply_to=7, recipient="ada", letter="l"
    )
    seen: list[Letter] = []

    async def send(letter: Letter) -> None:
        seen.append(letter)

    await replay(any_log, send)
    [letter] = seen
    assert (letter.conversation, letter.text) == ("chat:1", "ж" * 20_000)
    assert (letter.reply_to, letter.recipient, letter.attempts) == ("7", "ada", 0)


async def test_a_failure_counts_and_says_why(any_log):
    await park(any_log, 1)
    for attempts in (1, 2, 3):
        assert await replay(any_log, recorder([], "l0")) == ReplayReport(1, 0, 1, 0)
        letter = await found(any_log, "l0")
        assert (letter.status, letter.attempts, letter.replay_count) == (
            "parked",
            attempts,
            attempts,
        )
        assert letter.error == "SendFailed: no such chat."
    assert [each.attempt for each in letter.failures] == [1, 2, 3]


async def test_a_letter_that_fails_stops_the_later_ones_of_its_conversation_alone(any_log):
    await park(any_log, 9)
    sent: list[str] = []
    report = await replay(any_log, recorder(sent, "l3"))
    assert report == ReplayReport(tried=8, resolved=7, failed=1, skipped=1)
    assert "l6" not in sent
    assert await replay(any_log, recorder(sent)) == ReplayReport(2, 2, 0, 0)
    for chat in range(3):
        of_chat = [name for name in sent if int(name[1:]) % 3 == chat]
        assert list(dict.fromkeys(of_chat)) == [f"l{n}" for n in range(chat, 9, 3)]


async def test_a_long_queue_keeps_its_order_over_many_pages(any_log):
    await park(any_log, 230, chat_count=1)
    sent: list[str] = []
    assert (await replay(any_log, recorder(sent))).resolved == 230
    assert sent == [f"l{n}" for n in range(230)]


@pytest.mark.parametrize("limit", [0, 1, 4])
async def test_a_limit_bounds_how_many_are_tried(any_log, limit):
    await park(any_log, 10)
    sent: list[str] = []
    report = await replay(any_log, recorder(sent, "l0"), limit=limit)
    assert report.tried == len(sent) == limit
    resolved = (await statuses(any_log)).get("resolved", 0)
    assert resolved == report.resolved == limit - report.failed


async def test_other_groups_letters_and_settled_ones_are_not_sent(any_log):
    await park(any_log, 3)
    await persist_failed_delivery(
        any_log, conversation="chat:0", text="t", letter="other", group="x"
    )
    await discard(any_log, [await found(any_log, "l1")], "old")
    sent: list[str] = []
    assert await replay(any_log, recorder(sent)) == ReplayReport(2, 2, 0, 0)
    assert await replay(any_log, recorder(sent), group="x") == ReplayReport(1, 1, 0, 0)
    assert sorted(sent) == ["l0", "l2", "other"]


async def test_what_its_group_was_asked_to_replay_is_left_to_it_and_what_follows_waits(any_log):
    await park(any_log, 6)
    await request_replay(any_log, [await found(any_log, "l0")])
    sent: list[str] = []
    report = await replay(any_log, recorder(sent))
    assert report == ReplayReport(tried=4, resolved=4, failed=0, skipped=2)
    assert not {"l0", "l3"} & set(sent)


async def test_a_send_that_does_not_end_is_a_failure(any_log):
    await park(any_log, 1)

    async def send(_: Letter) -> None:
        await asyncio.Event().wait()

    assert await replay(any_log, send, timeout_s=0.05) == ReplayReport(1, 0, 1, 0)
    assert (await found(any_log, "l0")).error == "TimeoutError: not sent within 0.05 s"


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise ValueError


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (TimeoutError("read"), "TimeoutError: read"),
        (LogUnavailable("another log"), "LogUnavailable: another log"),
        (Unspeakable(), "Unspeakable: (no text)"),
        (ValueError("\ud800"), "ValueError: ?"),
        (ValueError("x" * 2_000_000), ("ValueError: " + "x" * 4000)[:4000]),
        (ExceptionGroup("two", [ValueError()]), "ExceptionGroup: two (1 sub-exception)"),
    ],
)
async def test_no_exception_of_the_send_escapes(any_log, error, text):
    await park(any_log, 1)

    async def send(_: Letter) -> None:
        raise error

    assert await replay(any_log, send) == ReplayReport(1, 0, 1, 0)
    assert (await found(any_log, "l0")).error == text


async def test_cancelled_it_leaves_the_letter_to_the_next_one_at_once(any_log):
    await park(any_log, 3, chat_count=1)
    begun, sent = asyncio.Event(), []

    async def hang(_: Letter) -> None:
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(replay(any_log, hang))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await found(any_log, "l0")).status == "replaying"
    assert await replay(any_log, recorder(sent)) == ReplayReport(3, 3, 0, 0)
    assert sent == ["l0", "l1", "l2"]
    assert (await found(any_log, "l0")).replay_count == 2


async def test_cancelled_after_the_send_it_still_says_that_it_was_sent(any_log):
    await park(any_log, 1)

    async def send(_: Letter) -> None:
        asyncio.get_running_loop().call_soon(task.cancel)

    task = asyncio.create_task(replay(any_log, send))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await found(any_log, "l0")).status == "resolved"


async def test_what_was_sent_is_recorded_when_the_log_is_back(log, quick):
    await park(log, 1)
    append, refusals = quick.append, iter(range(3))

    async def append_later(event: Any, **options: Any) -> Any:
        if isinstance(event, DeadLetterResolved) and next(refusals, None) is not None:
            raise LogUnavailable("the server is away.")
        return await append(event, **options)

    quick.append = append_later
    sent: list[str] = []
    assert await replay(quick, recorder(sent)) == ReplayReport(1, 1, 0, 0)
    assert sent == ["l0"]
    assert (await found(log, "l0")).status == "resolved"


async def test_a_log_that_stays_away_is_said_so_and_other_partitions_are_finished(log, quick):
    await park(log, 8, chat_count=8)
    append, lost = quick.append, log.partition_of("chat:0")

    async def append_elsewhere(event: Any, **options: Any) -> Any:
        if log.partition_of(event.conversation) == lost:
            raise LogUnavailable("the server is away.")
        return await append(event, **options)

    quick.append = append_elsewhere
    sent: list[str] = []
    with pytest.raises(LogUnavailable):
        await replay(quick, recorder(sent))
    there = [n for n in range(8) if log.partition_of(f"chat:{n}") != lost]
    assert sorted(sent) == [f"l{n}" for n in there]
    assert (await statuses(log))["resolved"] == len(there)


async def test_letters_parked_meanwhile_are_for_the_next_call(any_log):
    await park(any_log, 1)

    async def send(letter: Letter) -> None:
        await persist_failed_delivery(
            any_log, conversation="chat:0", text="t", letter=f"{letter.letter}+"
        )

    assert await replay(any_log, send) == ReplayReport(1, 1, 0, 0)
    assert (await found(any_log, "l0+")).status == "parked"


async def test_the_log_tells_who_tried_and_how_it_ended(any_log):
    await park(any_log, 2, chat_count=1)
    await replay(any_log, recorder([], "l1"))
    entries = await any_log.read(conversation="chat:0")
    claim, done, second, failed = [entry.event for entry in entries[2:]]
    assert isinstance(claim, DeadLetterReplayRequested)
    assert isinstance(second, DeadLetterReplayRequested)
    assert isinstance(done, DeadLetterResolved)
    assert isinstance(failed, DeadLetterReplayed)
    assert claim.runner
    assert claim.runner == second.runner
    assert (done.causation_id, failed.causation_id) == (claim.id, second.id)
    assert (claim.version, failed.attempt) == (2, 1)


# --- several who replay ----------------------------------------------------------------------------


async def test_many_at_once_send_no_letter_twice(any_log):
    await park(any_log, 40, chat_count=8)
    sent: list[str] = []

    async def send(letter: Letter) -> None:
        sent.append(letter.letter)
        await asyncio.sleep(0)

    reports = await asyncio.gather(*(replay(any_log, send) for _ in range(5)))
    assert Counter(sent) == Counter(f"l{n}" for n in range(40))
    assert sum(report.tried for report in reports) == 40


async def test_what_another_just_failed_with_is_not_tried_again_by_who_waited(any_log):
    await park(any_log, 4, chat_count=1)
    sent: list[str] = []
    reports = await asyncio.gather(*(replay(any_log, recorder(sent, "l1")) for _ in range(3)))
    assert sent == ["l0", "l1"]
    assert sum(report.failed for report in reports) == 1
    assert (await found(any_log, "l1")).attempts == 1


@pytest.mark.parametrize("moment", ["before the claim", "after the claim"])
async def test_who_lost_the_lease_does_not_send(log, quick, moment):
    await park(log, 2, chat_count=1)
    partition, append, robbed, sent = log.partition_of("chat:0"), quick.append, [], []

    async def rob() -> None:
        """The lease goes to another, who sends the first letter, while this process sleeps."""
        robbed.append(moment)
        key = quick.keys.lease(partition, "replay:delivery")
        await quick.client.hset(key, "expires_ms", 0)
        async with ExclusiveLease(log, "replay:delivery", partition, new_owner()).hold():
            seen = await found(log, "l0")
            sent.append("l0")
            done = DeadLetterResolved(conversation="chat:0", letter="l0", group="delivery")
            await log.append(done, expected_version=seen.version)

    async def append_and_be_robbed(event: Any, **options: Any) -> Any:
        is_claim = isinstance(event, DeadLetterReplayRequested) and not robbed
        if is_claim and moment == "before the claim":
            await rob()
        result = await append(event, **options)
        if is_claim and moment == "after the claim":
            await rob()
        return result

    quick.append = append_and_be_robbed
    assert await replay(quick, recorder(sent)) == ReplayReport(1, 1, 0, 0)
    assert sent == ["l0", "l1"]
    assert await statuses(log) == {"resolved": 2}


async def test_a_claim_of_a_process_that_is_gone_is_taken_over(log, quick):
    await park(log, 1)
    letter = await found(log, "l0")
    claim = DeadLetterReplayRequested(
        conversation=letter.conversation,
        letter="l0",
        group="delivery",
        version=2,
        runner="asleep",
    )
    await log.append(claim, expected_version=1)
    sent: list[str] = []
    assert await replay(quick, recorder(sent)) == ReplayReport(1, 1, 0, 0)
    assert sent == ["l0"]
    assert (await found(log, "l0")).version == 4


async def start_process(log: EventLog, receiver: Receiver) -> Process:
    module = [sys.executable, "-m", "tests.contract.replaying_process"]
    where = [log.server_url, log.settings.key_prefix, str(TTL_MS), str(receiver.port)]
    return await asyncio.create_subprocess_exec(*module, *where, stdout=PIPE)


async def report_of(process: Process) -> ReplayReport:
    output, _ = await process.communicate()
    assert process.returncode == 0
    return ReplayReport(**json.loads(output))


async def test_two_processes_at_once_send_no_letter_twice(log, receiver):
    await park(log, 60, chat_count=6)
    receiver.refused = {"l17", "l40"}
    processes = [await start_process(log, receiver) for _ in range(2)]
    reports = [await report_of(process) for process in processes]
    sent = Counter(receiver.arrived)
    # A call that begins after the other has failed at a letter may try it for its own part.
    assert {count for name, count in sent.items() if name not in receiver.refused} == {1}
    assert sum(report.failed for report in reports) == sum(sent[n] for n in receiver.refused)
    assert sum(report.tried for report in reports) == len(receiver.arrived)
    receiver.refused = set()
    await replay(log, sender_to(receiver.port))
    assert receiver.taken == Counter(f"l{n}" for n in range(60))
    for chat in range(6):
        taken = [name for name in receiver.taken if int(name[1:]) % 6 == chat]
        assert taken == [f"l{n}" for n in range(chat, 60, 6)]


async def test_killed_in_the_middle_of_a_send_another_replays_the_letter_exactly_once(
    log, quick, receiver
):
    await park(log, 3, chat_count=1)
    receiver.answers.clear()
    process = await start_process(log, receiver)
    await eventually(lambda: receiver.arrived == ["l0"])
    other = asyncio.create_task(replay(quick, sender_to(receiver.port)))
    process.send_signal(signal.SIGKILL)
    await process.wait()
    assert (await found(log, "l0")).status == "replaying"
    await eventually(lambda: receiver.arrived == ["l0", "l0"])
    receiver.answers.set()
    assert await other == ReplayReport(3, 3, 0, 0)
    assert receiver.arrived[:2] == ["l0", "l0"]
    assert sorted(receiver.arrived[2:]) == ["l1", "l2"], "of other chats, hence in either order"
    assert receiver.taken == {"l0": 1, "l1": 1, "l2": 1}
    assert await statuses(log) == {"resolved": 3}


async def test_paused_for_longer_than_its_lease_a_process_sends_nothing_more_of_it(
    log, quick, receiver
):
    chats = [name for name in map("chat:{}".format, range(99)) if log.partition_of(name) == 1][:3]
    for number, chat in enumerate(chats):
        await persist_failed_delivery(log, conversation=chat, text="t", letter=f"l{number}")
    receiver.answers.clear()
    process = await start_process(log, receiver)
    await eventually(lambda: receiver.arrived == ["l0"])
    process.send_signal(signal.SIGSTOP)
    try:
        other = asyncio.create_task(replay(quick, sender_to(receiver.port)))
        await eventually(lambda: len(receiver.arrived) == 2)
    finally:
        process.send_signal(signal.SIGCONT)
    receiver.answers.set()
    reports = [await other, await report_of(process)]
    # The letter that was on its way when the process fell asleep is the one that went out twice.
    assert receiver.arrived[:2] == ["l0", "l0"]
    assert sorted(receiver.arrived[2:]) == ["l1", "l2"]  # of other chats, so in no order
    assert await statuses(log) == {"resolved": 3}
    assert sum(report.resolved for report in reports) == 3


# --- the lease -------------------------------------------------------------------------------------


async def test_one_holds_a_lease_and_the_other_waits(any_log):
    first, second = (ExclusiveLease(any_log, "g", 0, new_owner()) for _ in range(2))
    elsewhere = ExclusiveLease(any_log, "g", 1, new_owner())
    order: list[str] = []

    async def wait_for_it() -> None:
        async with second.hold():
            order.append("second")
            assert await second.is_ours()

    async with first.hold(), elsewhere.hold():
        waiting = asyncio.create_task(wait_for_it())
        for _ in range(20):
            assert await first.is_ours()
        order.append("first")
    await waiting
    assert order == ["first", "second"]


async def test_it_is_renewed_for_as_long_as_it_is_held(quick):
    holder, other = (ExclusiveLease(quick, "g", 0, new_owner()) for _ in range(2))
    key = quick.keys.lease(0, "g")
    async with holder.hold():
        first = int(await quick.client.hget(key, "expires_ms"))

        async def is_renewed() -> bool:
            return int(await quick.client.hget(key, "expires_ms")) > first + TTL_MS

        await eventually(is_renewed)
        assert await holder.is_ours()
    async with other.hold():
        assert await other.is_ours()


async def test_once_lost_it_stays_lost_though_it_could_be_had_again(quick):
    holder, other = (ExclusiveLease(quick, "g", 0, new_owner()) for _ in range(2))
    async with holder.hold():
        await quick.client.hset(quick.keys.lease(0, "g"), "expires_ms", 0)
        async with other.hold():
            assert not await holder.is_ours()
            assert await other.is_ours()
        assert not await holder.is_ours()
    async with holder.hold():
        assert await holder.is_ours()


async def test_a_lease_is_given_back_also_when_it_was_lost_and_taken_again(quick):
    holder, other = (ExclusiveLease(quick, "g", 0, new_owner()) for _ in range(2))
    async with holder.hold():
        await quick.client.hset(quick.keys.lease(0, "g"), "expires_ms", 0)
        async with other.hold():
            pass
        assert not await holder.is_ours()
    assert await quick.client.hget(quick.keys.lease(0, "g"), "owner") == b""
