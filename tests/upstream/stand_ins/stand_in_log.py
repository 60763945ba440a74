"""A log for stand-ins: opened for each call, because upstream's tests bring their own event loops."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

from eventlog.log import EventLog

SERVER_URL = os.environ["UPSTREAM_SERVER_URL"]


def new_prefix() -> str:
    """Return a key prefix that no other log has."""
    return f"upstream-{uuid4().hex}"


def open_log(prefix: str) -> EventLog:
    """Return the log of that prefix, to be entered."""
    return EventLog.open(SERVER_URL, key_prefix=prefix, partition_count=2)


def passing_on(name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
    """Return a method that does what `self.real(log)` does under that name, in the log `self.prefix`."""

    async def method(self: Any, *args: Any, **options: Any) -> Any:
        async with open_log(self.prefix) as log:
            return await getattr(self.real(log), name)(*args, **options)

    return method


def in_another_thread(call: Coroutine[Any, Any, Any]) -> Any:
    """Return what the call returns, to code that cannot await it."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, call).result()
