"""A caged process as its parent sees it: started, asked once, killed."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Self

import msgspec
import pyarrow as pa

from analytics.sandbox import wire
from analytics.sandbox.limits import Limits
from analytics.sandbox.result import read_result
from analytics.sandbox.wire import Answer, Request
from eventlog.errors import QueryFailed, QueryTimeout, QueryTooLarge

START_TIMEOUT_S = 60.0
PIPE_BYTES = 1024 * 1024

_PACKAGE = str(Path(__file__).resolve().parent.parent)

# The package without what its __init__ imports: the rest of the product has no business in there,
# and takes four times as long to load.
_PROGRAM = """\
import sys, types
package = types.ModuleType("analytics")
package.__path__ = [sys.argv[1]]
sys.modules["analytics"] = package
from analytics.sandbox.child import main
main(int(sys.argv[2]))
"""


class CagedProcess:
    """One process. It ends with the thread that started it, if nothing else ends it."""

    def __init__(self, process: Process) -> None:
        self._process = process

    @classmethod
    async def start(cls) -> Self:
        """Return a process that makes itself ready."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-S", "-P", "-B", "-c", _PROGRAM, _PACKAGE, str(os.getpid())),
            stdin=PIPE,
            stdout=PIPE,
            env=_environment(),
            cwd="/",
            start_new_session=True,
            limit=PIPE_BYTES,
        )
        return cls(process)

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended, as far as is known."""
        return self._process.returncode is None

    async def ready(self) -> None:
        """Wait until it can be asked. Raises QueryFailed where it does not come up."""
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                kind, _ = await self._read_frame(0)
        except TimeoutError:
            raise QueryFailed("the sandbox's process did not come up in a minute.") from None
        if kind != wire.READY:
            raise QueryFailed("the sandbox's process did not come up.")

    async def ask(
        self, request: Request, parameters: pa.Table, tail: pa.Table
    ) -> tuple[Answer, pa.Table | None]:
        """Return how the query went, and its table where it is done.

        Raises QueryTimeout at the time limit, QueryTooLarge where the process died of the query or
        said too much, QueryFailed where it talks nonsense. It has to be killed then, as ever.
        """
        try:
            async with asyncio.timeout(request.limits.timeout_s):
                telling = asyncio.create_task(self._tell(request, parameters, tail))
                try:
                    answer, data = await self._listen(request.limits)
                finally:
                    telling.cancel()
                    await asyncio.gather(telling, return_exceptions=True)
        except TimeoutError:
            raise timed_out(request.limits) from None
        if answer.outcome != "done":
            return answer, None
        return answer, await asyncio.to_thread(read_result, data, request.limits)

    async def kill(self) -> None:
        """End it now, with all it may have started, and wait until nothing is left of it."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        waiting = asyncio.ensure_future(self._process.wait())
        try:
            await asyncio.shield(waiting)
        except asyncio.CancelledError:
            await asyncio.wait([waiting])  # a moment: it is dead already
            raise

    async def _tell(self, request: Request, parameters: pa.Table, tail: pa.Table) -> None:
        pipe = self._process.stdin
        assert pipe is not None
        # Where it ended, its answer or the lack of one says why.
        with suppress(ConnectionError):
            pipe.write(wire.frame(wire.REQUEST, msgspec.json.encode(request)))
            for table in (parameters, tail):
                for piece in await asyncio.to_thread(_pieces, table):
                    pipe.write(wire.HEADER.pack(wire.TABLE, len(piece)))
                    pipe.write(piece)
                    await pipe.drain()
                pipe.write(wire.frame(wire.END, b""))
            await pipe.drain()

    async def _listen(self, limits: Limits) -> tuple[Answer, bytearray]:
        data = bytearray()
        # The stream's own words, and what padding adds to small batches.
        max_bytes = 2 * limits.result_bytes + wire.FRAME_BYTES
        while True:
            kind, payload = await self._read_frame(wire.FRAME_BYTES)
            if kind == wire.TABLE:
                data += payload
                if len(data) > max_bytes:
                    raise QueryTooLarge("the result is larger than its process was told to make.")
            elif kind == wire.ANSWER and len(payload) <= wire.ANSWER_BYTES:
                try:
                    return msgspec.json.decode(payload, type=Answer), data
                except msgspec.DecodeError:
                    raise _nonsense() from None
            else:
                raise _nonsense()

    async def _read_frame(self, max_bytes: int) -> tuple[bytes, bytes]:
        pipe = self._process.stdout
        assert pipe is not None
        try:
            kind, length = wire.HEADER.unpack(await pipe.readexactly(wire.HEADER.size))
            if length > max_bytes:
                raise _nonsense()
            return kind, await pipe.readexactly(length)
        except asyncio.IncompleteReadError:
            raise died(await self._process.wait()) from None


def died(code: int) -> QueryFailed:
    """Return what to say of a process that ended without an answer."""
    if code in (-signal.SIGXCPU, -signal.SIGALRM):
        return QueryTimeout("the query used up its time.", remedy=_SHORTER)
    if code < 0:
        name = signal.Signals(-code).name
        return QueryTooLarge(
            f"the query brought its process down ({name}): it wants more memory than it may have, "
            "or is nested too deep.",
            remedy=_SMALLER,
        )
    return QueryFailed(f"the sandbox's process ended without an answer (exit code {code}).")


def timed_out(limits: Limits) -> QueryTimeout:
    """Return what to say of a query that took too long."""
    return QueryTimeout(f"the query took more than {limits.timeout_s:g} s.", remedy=_SHORTER)


_SHORTER = "Ask for less: a conversation, a day, fewer joins."
_SMALLER = "Ask for fewer rows or columns, or aggregate."


def _nonsense() -> QueryFailed:
    return QueryFailed("the sandbox's process does not keep to the protocol.")


def _environment() -> dict[str, str]:
    """Return an environment with nothing of ours but where modules and libraries are found."""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path),
        "LANG": "C.UTF-8",
        # Each arena takes 64 MiB of address space, which is what is limited.
        "MALLOC_ARENA_MAX": "2",
        "ARROW_DEFAULT_MEMORY_POOL": "system",
        # A thread from before the walls would stand outside of them.
        "JE_ARROW_MALLOC_CONF": "background_thread:false",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


def _pieces(table: pa.Table) -> Iterator[memoryview]:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    view = memoryview(sink.getvalue())
    return (view[at : at + wire.FRAME_BYTES] for at in range(0, len(view), wire.FRAME_BYTES))
