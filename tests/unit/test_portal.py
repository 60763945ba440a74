"""Async methods called from threads: what they return, raise, enter and iterate over."""

from __future__ import annotations

import asyncio
import inspect
import signal
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import FrameType, TracebackType
from typing import Self

import pytest

from eventlog.errors import LogNotOpen
from eventlog.portal import (
    Blocking,
    BlockingIterator,
    Portal,
    blocking,
    blocking_context,
    opening,
    passing,
)
from tests.support import eventually_sync


class Room:
    """What is asked for through the portal."""

    def __init__(self, name: str = "room") -> None:
        self.name = name
        self.left_with: list[BaseException | None] = []
        self.is_waiting = threading.Event()

    @classmethod
    def open(cls, name: str, *, floor: int = 0) -> Self:
        """Return a room."""
        return cls(f"{name} {floor}")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing to do."""

    async def add(self, one: int, /, other: int = 1, *, twice: bool = False) -> int:
        """Return the sum."""
        await asyncio.sleep(0)
        return (one + other) * (1 + twice)

    async def fail(self) -> None:
        raise KeyError("nothing there")

    async def wait(self) -> None:
        self.is_waiting.set()
        await asyncio.Event().wait()

    def called(self) -> str:
        return self.name

    @asynccontextmanager
    async def key(self, *, forgiving: bool = False) -> AsyncIterator[str]:
        task = asyncio.current_task()
        try:
            yield "key"
        except BaseException as error:
            self.left_with.append(error)
            if not forgiving:
                raise
        else:
            self.left_with.append(None)
        finally:
            assert asyncio.current_task() is task

    @asynccontextmanager
    async def full(self) -> AsyncIterator[None]:
        raise LookupError("no room")
        yield

    @asynccontextmanager
    async def queue(self) -> AsyncIterator[None]:
        try:
            await self.wait()
            yield
        finally:
            self.left_with.append(None)

    async def numbers(self, count: int) -> AsyncIterator[int]:
        for number in range(count):
            yield number


class BlockingRoom(Blocking[Room]):
    """The room, for threads."""

    def __init__(self, room: Room) -> None:
        super().__init__(room, Portal("BlockingRoom"))
        self.room = room

    open = opening(Room.open)
    add = blocking(Room.add)
    fail = blocking(Room.fail)
    wait = blocking(Room.wait)
    called = passing(Room.called)
    key = blocking_context(Room.key)
    full = blocking_context(Room.full)
    queue = blocking_context(Room.queue)

    def __enter__(self) -> Self:
        self._portal.open(self.room)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._portal.close()


@pytest.fixture
def room():
    with BlockingRoom(Room()) as opened:
        yield opened


def test_methods_return_and_raise_what_the_async_ones_do(room):
    assert room.add(1, 2) == 3
    assert room.add(1, twice=True) == 4
    with pytest.raises(KeyError, match="nothing there"):
        room.fail()
    assert room.called() == "room"


def test_they_look_like_the_async_ones():
    assert inspect.signature(BlockingRoom.add) == inspect.signature(Room.add)
    assert BlockingRoom.add.__doc__ == Room.add.__doc__
    assert not inspect.iscoroutinefunction(BlockingRoom.add)
    assert inspect.signature(BlockingRoom.open) == inspect.signature(Room.open)
    made = BlockingRoom.open("attic", floor=3)
    assert isinstance(made, BlockingRoom)
    assert made.room.name == "attic 3"


def test_a_context_is_left_in_the_task_that_entered_it(room):
    with room.key() as key:
        assert key == "key"
        assert room.add(1, 1) == 2
    assert room.room.left_with == [None]


def test_a_context_hears_of_errors_inside_and_may_forgive_them(room):
    with pytest.raises(ZeroDivisionError), room.key():
        1 / 0  # noqa: B018
    with room.key(forgiving=True):
        1 / 0  # noqa: B018
    assert [type(error) for error in room.room.left_with] == [ZeroDivisionError] * 2
    with pytest.raises(KeyboardInterrupt), room.key():
        raise KeyboardInterrupt
    assert room.add(1) == 2


def test_a_context_that_cannot_be_entered_says_why(room):
    with pytest.raises(LookupError, match="no room"), room.full():
        raise AssertionError("not inside")


def callers(frame: FrameType | None) -> list[str]:
    """Return the names of the last three functions: also the way into the loop waits for a moment."""
    names: list[str] = []
    while frame is not None and len(names) < 3:
        names.append(frame.f_code.co_name)
        frame = frame.f_back
    return names


def interrupt_when(event: threading.Event) -> None:
    def interrupt() -> None:
        main = threading.main_thread().ident
        assert event.wait(10)
        assert main is not None
        eventually_sync(lambda: callers(sys._current_frames()[main]) == ["wait", "result", "call"])
        signal.pthread_kill(main, signal.SIGINT)

    threading.Thread(target=interrupt).start()


def test_ctrl_c_ends_what_is_waited_for(room):
    interrupt_when(room.room.is_waiting)
    with pytest.raises(KeyboardInterrupt):
        room.wait()
    assert room.add(1) == 2


def test_ctrl_c_while_entering_leaves_the_context_again(room):
    interrupt_when(room.room.is_waiting)
    with pytest.raises(KeyboardInterrupt), room.queue():
        raise AssertionError("not inside")
    eventually_sync(lambda: room.room.left_with == [None])


def test_iterators_end(room):
    portal = room._portal
    assert list(BlockingIterator(room.room.numbers(3), portal)) == [0, 1, 2]
    iterator = BlockingIterator(room.room.numbers(1), portal)
    assert next(iterator) == 0
    assert next(iterator, None) is None


def test_a_call_from_the_loop_itself_is_refused_and_does_not_hang(room):
    async def from_within() -> None:
        room.add(1)

    with pytest.raises(RuntimeError, match="event loop thread"):
        room._portal.call(from_within)


def test_closing_ends_calls_and_contexts_that_others_are_in(room):
    ended: list[str] = []

    def wait() -> None:
        with pytest.raises(LogNotOpen, match="closed meanwhile"):
            room.wait()
        ended.append("wait")

    thread = threading.Thread(target=wait)
    thread.start()
    key = room.key()
    key.__enter__()
    assert room.room.is_waiting.wait(10)
    room._portal.close()
    thread.join(10)
    assert ended == ["wait"]
    assert room.room.left_with == [None]
    with pytest.raises(LogNotOpen, match=r"with BlockingRoom\.open\(\)"):
        key.__exit__(None, None, None)
