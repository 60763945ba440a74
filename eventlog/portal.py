"""Async objects for threads: an event loop in a thread of its own, and methods that wait for it.

A blocking class names each async method once; signature, types and docstring are the async one's.

>>> class BlockingClient(Blocking[Client]):
...     fetch = blocking(Client.fetch)
>>> BlockingClient(client, portal).fetch("page")
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    ExitStack,
    contextmanager,
)
from functools import partial, wraps
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, cast

import anyio
from anyio.from_thread import BlockingPortal

from eventlog.errors import LogNotOpen
from eventlog.tasks import end

A = TypeVar("A")
P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_END: Any = object()


class Portal:
    """The way from threads into an event loop that runs in a thread of its own.

    `name` is what the user opened, for errors. A forked child starts a loop of its own at its first
    call and enters the manager there once more, which has to bear that.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._portal: BlockingPortal | None = None
        self._process_id = 0
        self._stack = ExitStack()
        self._manager: AbstractAsyncContextManager[object] | None = None
        self._restarting = threading.Lock()

    @property
    def is_open(self) -> bool:
        """Whether calls can be made."""
        return self._portal is not None

    def open(self, manager: AbstractAsyncContextManager[object]) -> None:
        """Start the loop and enter `manager` in it, until `close`. Raises what entering raises."""
        if self.is_open:
            self.call(manager.__aenter__)  # which says so
            return
        self._start(manager)

    def _start(self, manager: AbstractAsyncContextManager[object]) -> None:
        with ExitStack() as stack:
            started: Future[BlockingPortal] = Future()
            thread = threading.Thread(target=_run, args=(started,), daemon=True, name=self._name)
            thread.start()
            stack.callback(thread.join)
            portal = started.result()
            # A lock that somebody left behind must not keep the loop from ending.
            stack.callback(portal.call, partial(portal.stop, cancel_remaining=True))
            portal.call(manager.__aenter__)
            stack.callback(portal.call, manager.__aexit__, None, None, None)
            self._portal, self._process_id = portal, os.getpid()
            self._manager, self._stack = manager, stack.pop_all()
        atexit.register(self.close)

    def close(self) -> None:
        """Leave the manager and end the loop; idempotent. The parent's loop is left alone."""
        is_open, self._portal = self.is_open, None
        if is_open and self._process_id == os.getpid():
            atexit.unregister(self.close)
            self._stack.close()

    def call(self, method: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what the method returns, run in the loop. Raises what it raises, and LogNotOpen.

        Interrupted (Ctrl-C), it cancels the method and leaves its outcome open.
        """
        portal = self._running()
        try:
            future = portal.start_task_soon(partial(method, *args, **kwargs))
        except RuntimeError:
            if self._portal is portal:  # called in the loop itself, which would wait for itself
                raise
            raise self._not_open("the log was closed meanwhile.") from None
        try:
            return future.result()
        except CancelledError:
            raise self._not_open("the log was closed meanwhile.") from None
        finally:
            future.cancel()  # nothing, unless the wait was interrupted

    def _running(self) -> BlockingPortal:
        """Return the portal, of which a forked child makes its own. Raises LogNotOpen."""
        if self._portal is not None and self._process_id != os.getpid():
            with self._restarting:
                if self._manager is not None and self._process_id != os.getpid():
                    # Of the parent's thread the child has the object only.
                    self._start(self._manager)
        if self._portal is None:
            raise self._not_open("the log is not open.")
        return self._portal

    def _not_open(self, message: str) -> LogNotOpen:
        return LogNotOpen(message, remedy=f"Use `with {self._name}.open()`.")


def _run(started: Future[BlockingPortal]) -> None:
    # Not anyio's own context manager: in a forked process it would wait for a thread that is not
    # there as soon as it is collected.
    async def serve() -> None:
        async with BlockingPortal() as portal:
            started.set_result(portal)
            await portal.sleep_until_stopped()

    try:
        anyio.run(serve)
    except RuntimeError as error:
        # At the end of a program Python 3.12 starts no thread, with which the loop would wait for its
        # helpers. They have ended by then: whatever ends the program waits for them before.
        if "interpreter shutdown" not in str(error):
            raise


class Blocking(Generic[A]):
    """What stands for an async object in threads. Safe to share between them."""

    def __init__(self, target: A, portal: Portal) -> None:
        self._target = target
        self._portal = portal

    def _bound(self, method: Callable[Concatenate[Any, P], T]) -> Callable[P, T]:
        """Return the target's own method of that name."""
        return cast("Callable[P, T]", getattr(self._target, method.__name__))


class Method(Protocol[P, T_co]):
    """How a type checker sees a method that was made from an async one."""

    def __get__(self, instance: Any, owner: type) -> Callable[P, T_co]:
        """Return the bound method."""
        ...


def blocking(method: Callable[Concatenate[Any, P], Awaitable[T]]) -> Method[P, T]:
    """Return the method of a Blocking class that waits for the target's of that name."""

    @wraps(method)
    def call(self: Blocking[Any], *args: P.args, **kwargs: P.kwargs) -> T:
        return self._portal.call(self._bound(method), *args, **kwargs)

    return cast("Method[P, T]", call)


class Opening(Protocol[P]):
    """How a type checker sees a class method that makes an object from what an async one opens."""

    def __get__(self, instance: Any, owner: type[T]) -> Callable[P, T]:
        """Return the bound class method."""
        ...


def opening(method: Callable[P, object]) -> Opening[P]:
    """Return the class method that makes the Blocking object of what `method` returns."""
    opened: Any = method

    def call(cls: Any, *args: P.args, **kwargs: P.kwargs) -> Any:
        return cls(method(*args, **kwargs))

    made: Any = wraps(opened.__func__)(call)
    made.__doc__ = (
        f"Return it, to be entered with `with`; arguments as for `{opened.__qualname__}`."
    )
    return cast("Opening[P]", classmethod(made))


def passing(method: Callable[Concatenate[Any, P], T]) -> Method[P, T]:
    """Return the method of a Blocking class that is the target's, which is not async."""

    @wraps(method)
    def call(self: Blocking[Any], *args: P.args, **kwargs: P.kwargs) -> T:
        return self._bound(method)(*args, **kwargs)

    return cast("Method[P, T]", call)


def blocking_context(
    method: Callable[Concatenate[Any, P], AbstractAsyncContextManager[T]],
) -> Method[P, AbstractContextManager[T]]:
    """Return the method of a Blocking class that gives a plain context manager for an async one."""

    @wraps(method)
    @contextmanager
    def call(self: Blocking[Any], *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        inside = _Inside(self._bound(method)(*args, **kwargs))
        value = self._portal.call(inside.enter)
        try:
            yield value
        except BaseException as error:
            if not self._portal.call(inside.leave, error):
                raise
        else:
            self._portal.call(inside.leave, None)

    return cast("Method[P, AbstractContextManager[T]]", call)


class _Inside(Generic[T]):
    """An async context manager that two calls enter and leave, in one task as it may expect."""

    def __init__(self, manager: AbstractAsyncContextManager[T]) -> None:
        self._manager = manager

    async def enter(self) -> T:
        """Return what the manager gives; cancelled, it is left again."""
        self._entered: asyncio.Future[T] = asyncio.Future()
        self._left: asyncio.Future[BaseException | None] = asyncio.Future()
        self._task = asyncio.create_task(self._stay())
        try:
            return await self._entered
        except asyncio.CancelledError:
            await end(self._task)
            raise

    async def leave(self, error: BaseException | None) -> bool:
        """Return whether the manager makes nothing of the error."""
        self._left.set_result(error)
        return await self._task

    async def _stay(self) -> bool:
        try:
            value = await self._manager.__aenter__()
        except Exception as error:  # noqa: BLE001 - it is raised where `enter` was called
            if not self._entered.done():
                self._entered.set_exception(error)
            return False
        if not self._entered.done():
            self._entered.set_result(value)
        left_with: BaseException | None = None
        try:
            left_with = await self._left
        finally:
            traceback = None if left_with is None else left_with.__traceback__
            kind = None if left_with is None else type(left_with)
            is_fine = await self._manager.__aexit__(kind, left_with, traceback)
        return bool(is_fine)


class BlockingIterator(Generic[T]):
    """An async iterator for plain `for` loops."""

    def __init__(self, iterator: AsyncIterator[T], portal: Portal) -> None:
        self._iterator = iterator
        self._portal = portal

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        item = self._portal.call(self._next)
        if item is _END:
            raise StopIteration
        return item

    async def _next(self) -> T:
        return await anext(self._iterator, cast("T", _END))
