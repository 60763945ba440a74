"""Bridge events from anywhere, without waiting and without ever failing."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from bridge.event_buffer import EventBuffer
from bridge.event_drops import TELL_EVERY_S
from eventlog import BridgeEvent, EventLog
from projections.views.sessions import Session
from tests.support import RawServer, eventually
from tests.working import AdjustableClock

Records = list[dict[str, Any]]


@pytest.fixture
async def buffer(any_log: EventLog) -> AsyncIterator[EventBuffer]:
    made = EventBuffer(any_log)
    made.start()
    yield made
    await made.close()


async def recorded(log: EventLog) -> list[BridgeEvent]:
    """Return what the log has, conversation by conversation in order."""
    found: list[BridgeEvent] = []
    for partition in range(log.partition_count):
        entries = await log.read(partition=partition, limit=100_000)
        found += [entry.event for entry in entries if isinstance(entry.event, BridgeEvent)]
    return found


def dropped(caplog: pytest.LogCaptureFixture) -> Records:
    """Return the fields of each warning."""
    return [
        record.__dict__["fields"]
        for record in caplog.records
        if record.__dict__.get("event") == "bridge_events_dropped"
    ]


class TestRecording:
    async def test_sync_and_async_code_and_any_thread_may_put(
        self, any_log: EventLog, buffer: EventBuffer
    ):
        def in_thread(name: str) -> None:
            for n in range(200):
                buffer.put("step", {"n": n}, project=name)

        async def in_other_loop() -> None:
            buffer.put("step", {"n": 0}, project="loop")
            await asyncio.sleep(0)
            buffer.put("step", {"n": 1}, project="loop")

        threads = [threading.Thread(target=in_thread, args=(f"t{n}",)) for n in range(4)]
        threads.append(threading.Thread(target=asyncio.run, args=(in_other_loop(),)))
        for thread in threads:
            thread.start()
        in_thread("here")
        for thread in threads:
            await asyncio.to_thread(thread.join)
        await buffer.close()

        events = await recorded(any_log)
        steps = {project: list(range(200)) for project in ("t0", "t1", "t2", "t3", "here")}
        for project, numbers in (steps | {"loop": [0, 1]}).items():
            found = [event.data["n"] for event in events if event.project == project]
            assert found == numbers, project
        assert buffer.dropped_count == 0

    async def test_what_is_put_is_recorded_soon_without_closing(
        self, any_log: EventLog, buffer: EventBuffer
    ):
        for n in range(3):
            assert buffer.put("tick", {"n": n}) is None  # type: ignore[func-returns-value]
            await eventually(lambda: buffer.held_count == 0)
            assert len(await recorded(any_log)) == n + 1

    async def test_each_event_has_its_place(self, any_log: EventLog, buffer: EventBuffer):
        session = Session("s-1", "telegram:42", project="shop")
        buffer.put("error", conversation="telegram:7", session="s-7")
        buffer.put("agent_request", session=session)
        buffer.put("deployed", project="shop")
        buffer.put("started", occurred_at=1_000, correlation_id="c", causation_id="a")
        await buffer.close()
        events = {event.event_type: event for event in await recorded(any_log)}
        assert {name: (e.conversation, e.session, e.project) for name, e in events.items()} == {
            "error": ("telegram:7", "s-7", None),
            "agent_request": ("telegram:42", "s-1", "shop"),
            "deployed": ("project:shop", None, "shop"),
            "started": ("bridge", None, None),
        }
        started = events["started"]
        assert (started.occurred_at, started.correlation_id, started.causation_id) == (
            1_000,
            "c",
            "a",
        )

    async def test_data_is_taken_as_it_was_in_what_json_has_for_it(
        self, any_log: EventLog, buffer: EventBuffer
    ):
        @dataclass
        class Usage:
            tokens: int
            models: tuple[str, ...]

        data = {
            "at": datetime(2026, 1, 2, tzinfo=UTC),
            "usage": Usage(7, ("small", "large")),
            "pair": (1, 2),
            "text": "é😀\0\n'\"",
            "nested": {"list": [1]},
            5: None,
        }
        buffer.put("agent_response", data)  # type: ignore[arg-type]
        data["nested"]["list"].append(2)  # type: ignore[index]
        data["late"] = True
        await buffer.close()
        [event] = await recorded(any_log)
        assert event.data == {
            "at": "2026-01-02T00:00:00Z",
            "usage": {"tokens": 7, "models": ["small", "large"]},
            "pair": [1, 2],
            "text": "é😀\0\n'\"",
            "nested": {"list": [1]},
            "5": None,
        }

    async def test_with_a_key_of_its_own_an_event_is_recorded_once(
        self, any_log: EventLog, buffer: EventBuffer
    ):
        for n in range(3):
            buffer.put("webhook", {"n": n}, idempotency_key="hook-1")
            await eventually(lambda: buffer.held_count == 0)
        assert [event.data["n"] for event in await recorded(any_log)] == [0]


class Unspeakable:
    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


_endless: dict[str, Any] = {}
_endless["self"] = _endless

BAD: dict[str, Any] = {
    "an object": {"v": object()},
    "an object without words": {"v": Unspeakable()},
    "bytes": {"v": b"\xff"},
    "not a number": {"v": float("nan")},
    "infinity": {"v": [float("inf")]},
    "half a character": {"v": "\ud800"},
    "without end": _endless,
    "a text": "hello",
    "a list": [1],
    "much too large": {"v": "x" * 10_000_000},
}


class TestDropping:
    @pytest.mark.parametrize("name", BAD)
    async def test_data_that_cannot_be_recorded_is_dropped_with_its_reason_and_the_rest_is_kept(
        self, any_log: EventLog, buffer: EventBuffer, name: str, caplog: pytest.LogCaptureFixture
    ):
        buffer.put("before")
        buffer.put("bad", BAD[name])
        buffer.put("after")
        assert buffer.dropped_count == 1
        [warning] = dropped(caplog)
        code = "event_too_large" if name == "much too large" else "invalid_event"
        assert (warning["reason"], warning["count"], warning["event_type"]) == (code, 1, "bad")
        assert 0 < len(warning["error"]) < 300
        await buffer.close()
        assert [event.event_type for event in await recorded(any_log)] == ["before", "after"]

    @pytest.mark.parametrize(
        "arguments",
        [
            {"event_type": None},
            {"event_type": Unspeakable()},
            {"event_type": "x", "conversation": 42},
            {"event_type": "x", "conversation": "c" * 600},
            {"event_type": "x", "session": ""},
            {"event_type": "x", "occurred_at": "now"},
        ],
    )
    async def test_other_arguments_out_of_place_are_dropped_too(
        self, buffer: EventBuffer, arguments: dict[str, Any]
    ):
        buffer.put(**arguments)
        assert buffer.dropped_count == 1

    async def test_before_opening_and_after_closing_events_are_dropped_and_told(
        self, any_log: EventLog, caplog: pytest.LogCaptureFixture
    ):
        buffer = EventBuffer(any_log)
        buffer.put("early")
        assert buffer.dropped_count == 1
        buffer.start()
        buffer.start()
        buffer.put("in time")
        await buffer.close()
        await buffer.close()
        buffer.put("late")
        assert buffer.dropped_count == 2
        assert [warning["reason"] for warning in dropped(caplog)] == ["not_open", "closed"]
        assert [event.event_type for event in await recorded(any_log)] == ["in time"]
        buffer.start()
        buffer.put("open again")
        await buffer.close()
        assert len(await recorded(any_log)) == 2

    async def test_a_full_buffer_drops_what_comes_and_takes_events_again_when_there_is_room(
        self, caplog: pytest.LogCaptureFixture
    ):
        clock = AdjustableClock()
        async with EventLog.in_memory(clock=clock, event_buffer_count=10) as log:
            buffer = EventBuffer(log)
            buffer.start()
            for n in range(15):  # without giving the loop a turn
                buffer.put("step", {"n": n})
            assert (buffer.held_count, buffer.dropped_count) == (10, 5)
            await eventually(lambda: buffer.held_count == 0)
            buffer.put("step", {"n": 15})
            await buffer.close()
            numbers = [event.data["n"] for event in await recorded(log)]
            assert numbers == [*range(10), 15]
        # The first at once, the others when the buffer is closed.
        told = [(w["reason"], w["count"], w["dropped_event_count"]) for w in dropped(caplog)]
        assert told == [("full", 1, 1), ("full", 4, 5)]

    async def test_size_counts_as_well_as_number(self):
        async with EventLog.in_memory(event_buffer_bytes=100_000) as log:
            buffer = EventBuffer(log)
            buffer.start()
            for _ in range(3):
                buffer.put("large", {"text": "x" * 40_000})
            buffer.put("small")
            assert (buffer.held_count, buffer.dropped_count) == (3, 1)
            await eventually(lambda: buffer.held_count == 0)
            for _ in range(3):
                buffer.put("large", {"text": "x" * 40_000})
            assert (buffer.held_count, buffer.dropped_count) == (2, 2)
            await buffer.close()

    async def test_warnings_of_one_reason_keep_their_distance_and_count_what_was_between(
        self, caplog: pytest.LogCaptureFixture
    ):
        clock = AdjustableClock()
        async with EventLog.in_memory(clock=clock) as log:
            buffer = EventBuffer(log)
            for _ in range(1000):
                buffer.put("early")
            buffer.put("early", b"another reason")  # type: ignore[arg-type]
            clock.put_forward(TELL_EVERY_S)
            buffer.put("early")
        told = [(warning["reason"], warning["count"]) for warning in dropped(caplog)]
        assert told == [("not_open", 1), ("invalid_event", 1), ("not_open", 1000)]

    async def test_a_handler_of_log_records_may_put_as_well(self, any_log: EventLog):
        buffer = EventBuffer(any_log)

        class ToBridge(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                buffer.put("log", {"text": record.getMessage()})

        handler = ToBridge()
        logger = logging.getLogger("eventlog.bridge")
        logger.addHandler(handler)
        try:
            buffer.put("early")
            assert buffer.dropped_count == 2
            buffer.start()
            buffer.put("bad", {"v": object()})
            await buffer.close()
        finally:
            logger.removeHandler(handler)
        [event] = await recorded(any_log)
        assert "bridge_events_dropped reason='invalid_event'" in event.data["text"]

    async def test_one_that_the_log_refuses_after_all_does_not_hold_up_the_others(
        self, any_log: EventLog, buffer: EventBuffer, caplog: pytest.LogCaptureFixture
    ):
        for size in (1, 2000, 2):
            buffer.put("step", {"text": "x" * size})
        any_log.codec.max_event_bytes = 1000
        await buffer.close()
        assert [len(event.data["text"]) for event in await recorded(any_log)] == [1, 2]
        assert buffer.dropped_count == 1
        assert [warning["reason"] for warning in dropped(caplog)] == ["event_too_large"]

    async def test_a_signal_handler_may_put_in_the_middle_of_a_put(
        self, any_log: EventLog, buffer: EventBuffer
    ):
        interrupted: list[int] = []

        def interrupt(frame: FrameType, event: str, _argument: object) -> Any:
            if frame.f_code.co_name != "_take":
                return interrupt if event == "call" else None
            if event == "line" and frame.f_lineno not in interrupted:
                interrupted.append(frame.f_lineno)
                buffer.put("interruption")
            return interrupt

        before = sys.gettrace()
        sys.settrace(interrupt)
        try:
            buffer.put("step")
        finally:
            sys.settrace(before)
        await buffer.close()
        assert len(interrupted) > 5
        assert len(await recorded(any_log)) == 1 + len(interrupted)


class TestServerAway:
    async def test_events_wait_for_it_and_come_in_order_once(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ):
        with RawServer(tmp_path, appendonly="yes", appendfsync="always") as server:
            async with EventLog.open(server.url, partition_count=2, max_retries=0) as log:
                buffer = EventBuffer(log)
                buffer.start()
                for n in range(700):
                    buffer.put("step", {"n": n}, conversation=f"c:{n % 3}")
                await eventually(lambda: buffer.held_count < 700)
                server.kill()
                for n in range(700, 1400):
                    buffer.put("step", {"n": n}, conversation=f"c:{n % 3}")
                await eventually(lambda: "bridge_events_wait" in caplog.text)
                server.start()
                await eventually(lambda: buffer.held_count == 0)
                await buffer.close()
                events = await recorded(log)
                for chat in range(3):
                    conversation = f"c:{chat}"
                    found = [e.data["n"] for e in events if e.conversation == conversation]
                    assert found == list(range(chat, 1400, 3))
                assert buffer.dropped_count == 0

    async def test_closing_without_it_ends_in_time_and_tells_what_was_lost(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ):
        with RawServer(tmp_path) as server:
            async with EventLog.open(server.url, max_retries=0) as log:
                buffer = EventBuffer(log)
                buffer.start()
                server.kill()
                for _ in range(7):
                    buffer.put("step")
                before_s = asyncio.get_running_loop().time()
                await buffer.close(timeout_s=0.3)
                assert asyncio.get_running_loop().time() - before_s < 3
                assert buffer.dropped_count == 7
        warning = dropped(caplog)[-1]
        assert (warning["reason"], warning["count"]) == ("closed_before_appended", 7)


class TestEndings:
    def test_a_loop_that_ends_without_closing_tells_what_was_lost(
        self, caplog: pytest.LogCaptureFixture
    ):
        async def careless() -> EventBuffer:
            log = await EventLog.in_memory()
            buffer = EventBuffer(log)
            buffer.start()
            await asyncio.sleep(0)
            buffer.put("lost")
            return buffer

        buffer = asyncio.run(careless())
        assert buffer.dropped_count == 1
        buffer.put("late")
        assert buffer.dropped_count == 2
        assert [warning["reason"] for warning in dropped(caplog)] == ["loop_ended", "closed"]

    def test_a_loop_that_is_closed_under_a_running_buffer_tells_it_too(
        self, caplog: pytest.LogCaptureFixture
    ):
        async def opened() -> EventBuffer:
            buffer = EventBuffer(await EventLog.in_memory())
            buffer.start()
            return buffer

        loop = asyncio.new_event_loop()
        buffer = loop.run_until_complete(opened())
        [task] = asyncio.all_tasks(loop)
        loop.close()
        buffer.put("lost")
        assert buffer.dropped_count == 1
        assert [warning["reason"] for warning in dropped(caplog)] == ["loop_ended"]
        task._log_destroy_pending = False  # type: ignore[attr-defined] # meant here

    async def test_another_loop_may_put_and_close_while_the_first_one_runs(
        self, any_log: EventLog, buffer: EventBuffer
    ):
        async def elsewhere() -> None:
            buffer.start()
            buffer.put("elsewhere")
            await buffer.close()

        buffer.put("here")
        await asyncio.to_thread(asyncio.run, elsewhere())
        assert buffer.held_count == buffer.dropped_count == 0
        assert [event.event_type for event in await recorded(any_log)] == ["here", "elsewhere"]

    def test_closing_in_another_loop_than_one_that_stands_still_tells_what_was_lost(
        self, caplog: pytest.LogCaptureFixture
    ):
        async def opened() -> EventBuffer:
            buffer = EventBuffer(await EventLog.in_memory())
            buffer.start()
            await asyncio.sleep(0)
            buffer.put("lost")
            return buffer

        with asyncio.Runner() as still:
            buffer = still.run(opened())
            asyncio.run(buffer.close())
            assert buffer.dropped_count == 1
        assert [warning["reason"] for warning in dropped(caplog)] == ["loop_ended"]

    def test_the_next_loop_starts_afresh(self):
        async def put(buffer: EventBuffer, name: str) -> list[str]:
            async with buffer._log:
                buffer.start()
                buffer.put(name)
                await eventually(lambda: buffer.held_count == 0)
                return [event.event_type for event in await recorded(buffer._log)]

        buffer = EventBuffer(EventLog.in_memory())
        assert asyncio.run(put(buffer, "one")) == ["one"]
        assert asyncio.run(put(buffer, "two")) == ["two"]
        assert buffer.dropped_count == 0

    def test_a_forked_process_tells_that_nobody_appends_what_it_puts(self):
        script = """
import asyncio, os
from bridge.event_buffer import EventBuffer
from eventlog import EventLog

async def main():
    async with EventLog.in_memory() as log:
        buffer = EventBuffer(log)
        buffer.start()
        buffer.put("the parent's")
        child = os.fork()
        if child == 0:
            buffer.put("the child's")
            assert buffer.dropped_count == 1
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        await buffer.close()
        assert buffer.dropped_count == 0
        assert len(await log.read(conversation="bridge")) == 1

asyncio.run(main())
"""
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "bridge_events_dropped reason='forked' count=1" in done.stderr
