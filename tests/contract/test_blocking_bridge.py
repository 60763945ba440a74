"""The bridge for programs without an event loop: what the async one does, from any thread."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from bridge import BlockingBridge, Bridge
from bridge.sessions import SessionCalls
from consumers.dead_letters import Letter
from eventlog import BlockingEventLog, BridgeEvent, EventLog
from eventlog.errors import IllegalTransition, LogNotOpen, SessionMissing, UnknownPlatform
from eventlog.portal import Blocking
from tests.support import eventually_sync

_numbers = itertools.count(1)


@pytest.fixture(params=["memory", "server"])
def bridge(request: pytest.FixtureRequest, server_url: str) -> Iterator[BlockingBridge]:
    if request.param == "memory":
        made = BlockingBridge(Bridge(EventLog.in_memory(partition_count=4)))
    else:
        prefix = f"blocking-bridge{next(_numbers)}"
        made = BlockingBridge.open(server_url, key_prefix=prefix, partition_count=4)
    with made as opened:
        yield opened


class TestLikeTheAsyncOne:
    def pairs(self) -> Iterator[tuple[object, Blocking[Any]]]:
        """Every async object that a bridge consists of, beside what stands for it."""
        made = Bridge(EventLog.in_memory())
        blocking = BlockingBridge(made)
        yield made, blocking
        for name, part in vars(blocking).items():
            if isinstance(part, Blocking):
                yield getattr(made, name), part

    def test_every_call_is_there_with_the_same_signature(self):
        compared = 0
        for made, blocking in self.pairs():
            for name in dir(made):
                if name.startswith("_") or (type(made), name) in NOT_THERE:
                    continue
                assert hasattr(blocking, name), f"{type(blocking).__name__} has no {name}"
                call, twin = getattr(made, name), getattr(blocking, name)
                if inspect.isroutine(call):
                    assert inspect.isroutine(twin), name
                    assert not inspect.iscoroutinefunction(twin), name
                    assert parameters(call) == parameters(twin), name
                    compared += 1
        assert compared > 40

    def test_nothing_is_there_that_the_async_one_has_not(self):
        for made, blocking in self.pairs():
            assert {name for name in dir(blocking) if not name.startswith("_")} <= set(
                dir(made)
            ) | {"log"}


NOT_THERE = {
    (EventLog, "on_move"),  # the portal keeps to one loop
    (SessionCalls, "resolver"),  # which the bridge prepares as it opens
    *(
        (EventLog, name)
        for name in (
            *("settings", "codec", "clock", "keys"),  # of the log itself: `blocking.log.log`
            *("client", "server_url", "partition_count", "is_in_memory"),
            *("in_memory", "producer", "read_raw"),
        )
    ),
}


def parameters(call: Any) -> list[tuple[str, Any, Any]]:
    """Return name, kind and default of each parameter; `self`-only markers do not count."""
    return [(p.name, p.kind, p.default) for p in inspect.signature(call).parameters.values()]


class TestCalls:
    def test_a_bot_from_the_first_message_to_the_end(self, bridge: BlockingBridge):
        session = bridge.sessions.resolve("telegram", 7)
        assert bridge.sessions.resolve("telegram", 7).id == session.id
        tail = bridge.sessions.tail(session.id)
        assert not bridge.received(session, "hello", message_id=1).duplicate
        assert bridge.received(session, "hello", message_id=1).duplicate
        bridge.sent(session, "hi", message_id=2)
        page = bridge.history(session)
        assert [entry.event.text for entry in page.entries] == ["hello", "hi"]
        assert bridge.conversations.get("telegram:7") == session.id
        assert bridge.sessions.complete(session.id).status == "completed"
        types = [entry.event.type for entry in tail]
        assert types == ["message.received", "message.sent", "session.transitioned"]
        assert next(tail, None) is None
        again = bridge.sessions.tail(session.id, str(tail.cursor))
        assert list(again) == []
        assert [s.id for s in bridge.sessions.list(status="completed").items] == [session.id]

    def test_errors_come_through(self, bridge: BlockingBridge):
        with pytest.raises(SessionMissing):
            bridge.sessions.touch("nobody")
        session = bridge.sessions.start(session_id="s")
        bridge.sessions.fail(session.id)
        with pytest.raises(IllegalTransition):
            bridge.sessions.resume(session.id)

    def test_who_may_not_use_the_bot_leaves_nothing(self, bridge: BlockingBridge):
        bridge.allow("telegram", {7})
        assert bridge.receive("telegram", 8, "hello") is None
        received = bridge.receive("telegram", 7, "hello")
        assert received is not None
        assert [s.user for s in bridge.sessions.list().items] == ["7"]
        with pytest.raises(UnknownPlatform):
            bridge.receive("discord", 7, "hello")

    def test_bridge_events_are_flushed_at_the_end(self, server_url: str):
        prefix = f"blocking-bridge{next(_numbers)}"
        with BlockingBridge.open(server_url, key_prefix=prefix) as bridge:
            for n in range(100):
                bridge.log_event("step", {"n": n}, project="shop")
            bridge.log_event("bad", {"n": object()})
            assert bridge.dropped_event_count == 1
        with BlockingEventLog.open(server_url, key_prefix=prefix) as log:
            events = [entry.event for entry in log.read(conversation="project:shop")]
        assert [e.data["n"] for e in events if isinstance(e, BridgeEvent)] == list(range(100))

    def test_letters_are_sent_by_a_plain_function_which_may_use_the_bridge(
        self, bridge: BlockingBridge
    ):
        for chat in (7, 8):
            bridge.persist_failed_delivery(f"phone:{chat}", f"for {chat}", letter=f"l{chat}")
        threads: set[int] = set()

        def send(letter: Letter) -> None:
            threads.add(threading.get_ident())
            if letter.letter == "l8":
                raise OSError("nobody answers")
            bridge.sent(letter.conversation, letter.text or "", message_id=letter.letter)

        report = bridge.replay_dead_letters(send)
        assert (report.resolved, report.failed) == (1, 1)
        assert threading.get_ident() not in threads
        [entry] = bridge.history("phone:7").entries
        assert entry.event.text == "for 7"
        parked = bridge.dead_letters.list(status="parked").items
        assert [(letter.letter, letter.attempts) for letter in parked] == [("l8", 1)]


class TestThreads:
    def test_first_messages_from_many_threads_are_one_session(self, bridge: BlockingBridge):
        def first(_: int) -> str:
            return bridge.sessions.resolve("telegram", 7, 42).id

        with ThreadPoolExecutor(8) as pool:
            assert len(set(pool.map(first, range(40)))) == 1

    def test_a_session_s_lock_lets_one_thread_in_at_a_time(self, bridge: BlockingBridge):
        session = bridge.sessions.resolve("telegram", 7)
        inside: list[str] = []

        def work(name: int) -> bool:
            with bridge.sessions.lock(session.id) as lock:
                inside.append("in")
                bridge.sent(session, f"from {name}", fence=lock.fence)
                inside.append("out")
                return lock.is_ours()

        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(work, range(12)))
        assert inside == ["in", "out"] * 12
        with pytest.raises(SessionMissing), bridge.sessions.lock("nobody"):
            raise AssertionError("not inside")
        with pytest.raises(ZeroDivisionError), bridge.sessions.lock(session.id):
            1 / 0  # noqa: B018
        with bridge.sessions.lock(session.id):
            pass

    async def test_it_may_be_called_where_a_loop_runs(self):
        with BlockingBridge(Bridge(EventLog.in_memory())) as bridge:
            session = bridge.sessions.resolve("telegram", 7)
            bridge.received(session, "hello")
            await asyncio.sleep(0)
            assert len(bridge.history(session).entries) == 1

    def test_two_bridges_at_once(self):
        made = [BlockingBridge(Bridge(EventLog.in_memory())) for _ in range(2)]
        with made[0] as one, made[1] as other:
            session = one.sessions.resolve("telegram", 7)
            assert other.sessions.get(session.id) is None

    def test_ctrl_c_ends_the_call_and_not_the_bridge(self, bridge: BlockingBridge):
        main = threading.main_thread().ident
        assert main is not None
        tail = bridge.log.tail()
        timer = threading.Timer(0.05, signal.pthread_kill, (main, signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            next(tail)
        bridge.received("telegram:7", "hello")
        assert next(tail).event.type == "message.received"


class TestOpenAndClosed:
    def test_use_before_open_and_after_close(self):
        bridge = BlockingBridge(Bridge(EventLog.in_memory()))
        for _ in range(2):
            assert bridge.ping() is False
            assert bridge.log.ping() is False
            for call in (
                lambda: bridge.sessions.resolve("telegram", 7),
                lambda: bridge.received("telegram:7", "x"),
                lambda: bridge.conversations.get("telegram:7"),
                lambda: bridge.log.read(partition=0),
                lambda: bridge.replay_dead_letters(print),
            ):
                with pytest.raises(LogNotOpen, match=r"with BlockingBridge\.open\(\)"):
                    call()
            with bridge:
                assert bridge.ping()
                assert bridge.log.ping()
            bridge.close()
        bridge.log_event("late")
        assert bridge.dropped_event_count == 1

    def test_opening_twice_warns(self, bridge: BlockingBridge, caplog: pytest.LogCaptureFixture):
        with bridge:
            pass
        assert "already_open" in caplog.text
        assert bridge.ping() is False

    def test_an_opening_that_fails_leaves_no_thread_behind(self, tmp_path):
        before = threading.active_count()
        with pytest.raises(Exception, match="cannot be reached"):
            BlockingBridge.open(f"unix://{tmp_path}/none.sock").__enter__()
        eventually_sync(lambda: threading.active_count() <= before)

    def test_a_call_under_way_ends_when_another_thread_closes(self, bridge: BlockingBridge):
        waiting = threading.Event()

        def follow() -> bool:
            tail = bridge.log.tail()
            waiting.set()
            with pytest.raises(LogNotOpen):
                next(tail)
            return True

        with ThreadPoolExecutor(1) as pool:
            following = pool.submit(follow)
            assert waiting.wait(10)
            bridge.close()
            assert following.result(10)


def run_script(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


class TestProcesses:
    def test_a_program_that_forgets_to_close_loses_nothing(self, server_url: str):
        prefix = f"blocking-bridge{next(_numbers)}"
        script = """
import sys
from bridge import BlockingBridge
bridge = BlockingBridge.open(sys.argv[1], key_prefix=sys.argv[2]).__enter__()
bridge.log_event("last words")
"""
        done = run_script(script, server_url, prefix)
        assert (done.returncode, done.stderr) == (0, "")
        with BlockingEventLog.open(server_url, key_prefix=prefix) as log:
            assert len(log.read(conversation="bridge")) == 1

    def test_a_forked_process_goes_on_by_itself_and_leaves_its_parent_s_alone(
        self, server_url: str
    ):
        script = """
import os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads
from bridge import BlockingBridge
bridge = BlockingBridge.open(sys.argv[1], key_prefix=sys.argv[2]).__enter__()
bridge.received("telegram:7", "hello")
bridge.log_event("in the parent")
if (child := os.fork()) == 0:
    assert bridge.ping() is True
    assert len(bridge.history("telegram:7").entries) == 1
    bridge.received("telegram:7", "in the child")
    bridge.log_event("in the child")
    assert bridge.sessions.start(conversation="telegram:7", text="job")
    if sys.argv[3] == "closed":
        bridge.close()
        assert bridge.ping() is False
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
bridge.received("telegram:7", "in the parent again")
texts = [entry.event.text for entry in bridge.history("telegram:7").entries]
assert texts == ["hello", "in the child", "in the parent again"], texts
bridge.close()
with BlockingBridge.open(sys.argv[1], key_prefix=sys.argv[2]) as bridge:
    events = [entry.event.event_type for entry in bridge.log.read(conversation="bridge")]
    assert sorted(events) == ["in the child", "in the parent"], events
"""
        for end in ("closed", "left open"):
            done = run_script(script, server_url, f"blocking-bridge{next(_numbers)}", end)
            assert (done.returncode, done.stderr) == (0, "")
