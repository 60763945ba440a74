from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from eventlog import BlockingEventLog, EventLog, MessageReceived, SessionTouched
from eventlog.errors import LogNotOpen, VersionConflict
from tests.support import eventually_sync

_numbers = itertools.count(1)


def message(text: object, conversation: str = "c") -> MessageReceived:
    return MessageReceived(conversation=conversation, text=str(text))


@pytest.fixture(params=["memory", "server"])
def blocking(request: pytest.FixtureRequest, server_url: str) -> Iterator[BlockingEventLog]:
    if request.param == "memory":
        made = BlockingEventLog(EventLog.in_memory(partition_count=4))
    else:
        prefix = f"blocking{next(_numbers)}"
        made = BlockingEventLog.open(server_url, key_prefix=prefix, partition_count=4)
    with made as opened:
        yield opened


def test_what_is_appended_is_read_and_followed(blocking):
    first = blocking.append(message("1"))
    second, third = blocking.append([message("2"), message("3")])
    assert [r.sequence for r in (first, second, third)] == [1, 2, 3]
    entries = blocking.read(conversation="c", reverse=True, limit=2)
    assert [e.event.text for e in entries] == ["3", "2"]
    tail = blocking.tail("start")
    assert [next(tail).event.text for _ in range(3)] == ["1", "2", "3"]
    resumed = blocking.tail(str(tail.cursor))
    blocking.append(message("4"))
    assert [entry.event.text for entry in itertools.islice(resumed, 1)] == ["4"]
    assert blocking.ping() is True


def test_errors_come_through(blocking):
    event = SessionTouched(conversation="c", session="s")
    with pytest.raises(VersionConflict):
        blocking.append(event, expected_version=5)
    assert blocking.append(event, expected_version=0).version == 1


def test_threads_share_it(blocking):
    def bot(name: str) -> None:
        for n in range(20):
            blocking.append(message(n, name))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(bot, (f"chat:{n}" for n in range(8))))
    for n in range(8):
        texts = [e.event.text for e in blocking.read(conversation=f"chat:{n}")]
        assert texts == [str(i) for i in range(20)]


def test_closing_is_idempotent_and_ends_its_use(blocking):
    before = threading.active_count()
    blocking.close()
    blocking.close()
    assert blocking.ping() is False
    with pytest.raises(LogNotOpen):
        blocking.append(message("x"))
    eventually_sync(lambda: threading.active_count() < before)


def test_closing_ends_a_tail_that_waits_in_another_thread(blocking):
    ended: list[BaseException] = []
    waiting = threading.Event()

    def follow() -> None:
        tail = blocking.tail()
        waiting.set()
        try:
            next(tail)
        except LogNotOpen as error:
            ended.append(error)

    thread = threading.Thread(target=follow)
    thread.start()
    assert waiting.wait(10)
    blocking.close()
    thread.join(10)
    assert not thread.is_alive()
    assert ended


def test_use_before_open():
    log = BlockingEventLog(EventLog.in_memory())
    assert log.ping() is False
    for call in (lambda: log.append(message("x")), lambda: log.read(partition=0), log.tail):
        with pytest.raises(LogNotOpen, match="BlockingEventLog"):
            call()
    log.close()


def test_an_opening_that_fails_leaves_no_thread_behind(tmp_path):
    before = threading.active_count()
    with pytest.raises(Exception, match="cannot be reached"):
        BlockingEventLog.open(f"unix://{tmp_path}/none.sock").__enter__()
    eventually_sync(lambda: threading.active_count() <= before)


async def test_it_may_be_called_in_a_thread_that_runs_an_event_loop(server_url: str):
    with BlockingEventLog.open(server_url, key_prefix=f"blocking{next(_numbers)}") as log:
        assert log.append(message("hello")).sequence == 1
        assert log.spool_counts() == {}
        assert not log.is_degraded
        assert log.partition_of("c") >= 0
