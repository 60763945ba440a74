"""Calling a handler, in the loop or in a thread, for no longer than it may take."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from consumers.context import Context
from consumers.handler import Handler
from consumers.time_limit import TimeLimits
from eventlog.errors import AttemptFailed
from eventlog.logs import HANDLED


async def call(handler: Handler, context: Context, limits: TimeLimits) -> None:
    """Call the handler and wait for its end. Raises what it raises, and AttemptTimedOut.

    From then on lines that the running task writes to a log say which entry it is about.
    """
    HANDLED.set(context)
    task = asyncio.current_task()
    assert task is not None
    limits.begin(task, handler.timeout_s)
    try:
        if handler.is_async:
            await handler.call(context.event, context)
        else:
            returned = await _in_thread(handler.call, context.event, context)
            if inspect.isawaitable(returned):  # a plain function round an async one
                await returned
    except asyncio.CancelledError as error:
        if limits.end(task) and not task.cancelling():
            raise AttemptTimedOut(handler.timeout_s) from error
        if task.cancelling():  # by whom, the runner knows
            raise
        raise CancelledFromWithin from error
    except SystemExit as error:
        limits.end(task)
        raise AttemptFailed(f"the handler called sys.exit({error.code!r}).") from error
    except BaseException:
        limits.end(task)
        raise
    if limits.end(task):  # it did not mind that its time was over
        raise AttemptTimedOut(handler.timeout_s)


class CancelledFromWithin(AttemptFailed):
    """The handler's task was cancelled, and not by the worker."""

    code = "cancelled"

    def __init__(self) -> None:
        super().__init__(
            "the handler's task was cancelled by the program itself.",
            remedy="Cancel tasks of its own, not the one that it is called in.",
        )


class AttemptTimedOut(AttemptFailed):
    """The handler took longer than it may."""

    code = "timeout"

    def __init__(self, timeout_s: float) -> None:
        super().__init__(
            f"the handler did not end within {timeout_s:g} s.",
            remedy="Give it a longer timeout_s, or what it calls a shorter one.",
        )


async def _in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    """Run a function in a thread of its own, which ends with the process even if it hangs."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Any] = loop.create_future()

    def end(returned: Any, error: BaseException | None) -> None:
        if ended.done():
            return
        if isinstance(error, StopIteration):  # which no future can hold
            error = AttemptFailed("the handler raised StopIteration.")
        if error is None:
            ended.set_result(returned)
        else:
            ended.set_exception(error)

    def run() -> None:
        returned, error = None, None
        try:
            returned = function(*arguments)
        except BaseException as raised:  # noqa: BLE001 - it is raised where the thread is awaited
            error = raised
        with suppress(RuntimeError):  # the loop has ended, and nobody waits any more
            loop.call_soon_threadsafe(end, returned, error)

    in_context = contextvars.copy_context()
    threading.Thread(target=in_context.run, args=(run,), daemon=True, name="handler").start()
    return await ended
