"""Who copies an archiver's segments: processes of their own for the long ones, threads for the rest.

Turning entries into columns holds Python's lock, so that one process archives no faster than one
core allows, and whatever else it does has to wait. A process takes a third of a second to start,
hence only a backlog is worth one.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from analytics.copying import Copied, Copy, Failed, copy_segment
from analytics.steps import Reached, go_on
from eventlog.codec import Codec
from eventlog.errors import (
    AuthenticationFailed,
    EventLogError,
    HistoryGap,
    LogUnavailable,
    OutOfMemory,
)
from eventlog.ids import EntryId

PROCESS_ROWS = 100_000
"""From so many rows on, a fifth of a second's work, a segment is copied by a process."""

THREADS = 2
"""At once: while one waits for the disk or compresses, the other makes columns."""

_ERRORS = (AuthenticationFailed, HistoryGap, LogUnavailable, OutOfMemory, EventLogError)
_ERROR_OF: dict[str, type[EventLogError]] = {kind.code: kind for kind in _ERRORS}


class Copiers:
    """Up to `process_count` processes, started when there is work for them, and threads. Close them.

    With 0, all is copied in threads. So is a log with event types or upcasters of your own, which
    another process would not know.
    """

    def __init__(self, process_count: int = 0, *, process_rows: int = PROCESS_ROWS) -> None:
        self.process_count = process_count if sys.executable else 0
        self._process_rows = process_rows
        self._process_room = asyncio.Semaphore(max(1, process_count))
        self._thread_room = asyncio.Semaphore(THREADS)
        self._idle: list[Process] = []

    async def copy(self, copy: Copy, codec: Codec, reached: Reached = go_on) -> EntryId:
        """Return the id of the last entry; the file is whole, synced and checked.

        Raises what `copy_segment` raises, or EventLogError where a process died. Cancelled, it
        stops soon; what there is of the file is the caller's to delete.
        """
        if self.process_count and codec.is_builtin and copy.draft.row_count >= self._process_rows:
            async with self._process_room:
                return await self._in_process(copy)
        async with self._thread_room:
            return await self._in_thread(copy, codec, reached)

    async def close(self) -> None:
        """End the processes that have nothing to do; what comes later starts new ones."""
        while self._idle:
            await _end(self._idle.pop())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _in_thread(self, copy: Copy, codec: Codec, reached: Reached) -> EntryId:
        unwanted = threading.Event()
        try:
            end = await asyncio.to_thread(
                copy_segment, copy, codec, reached, lambda: not unwanted.is_set()
            )
        finally:
            unwanted.set()
        assert end is not None  # it was wanted to the end
        return end

    async def _in_process(self, copy: Copy) -> EntryId:
        process = self._idle.pop() if self._idle else await _start()
        try:
            answer = await _ask(process, copy)
        except BaseException:
            await _end(process)
            raise
        self._idle.append(process)
        if isinstance(answer, Copied):
            return answer.end
        if answer.code:
            kind = _ERROR_OF.get(answer.code, EventLogError)
            raise kind(answer.message, remedy=answer.remedy)
        raise OSError(answer.errno, answer.message)


async def _start() -> Process:
    # The same modules as here, wherever they were found, and none from the working directory.
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "analytics.copier"),
        stdin=PIPE,
        stdout=PIPE,
        env={**os.environ, "PYTHONPATH": path},
    )


async def _ask(process: Process, copy: Copy) -> Copied | Failed:
    assert process.stdin is not None
    assert process.stdout is not None
    line = b""
    with suppress(ConnectionError):
        process.stdin.write(msgspec.json.encode(copy) + b"\n")
        await process.stdin.drain()
        line = await process.stdout.readline()
    if not line.endswith(b"\n"):
        raise EventLogError(
            f"the process that copied {copy.draft.name} ended (exit code {await process.wait()}).",
            remedy="Nothing was published and it can be tried again; was there memory enough?",
        )
    return msgspec.json.decode(line, type=Copied | Failed)


async def _end(process: Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()
