"""A way to the server on which things get lost: seeded, so that a failure can be seen again.

What is on the way may get lost, be late, or arrive twice. TCP itself repeats no byte: within a
connection the proxy never does either, since no client of any protocol could make sense of it. But
what stands between two connections, a proxy or a load balancer, may send a *request* again over
another one and drop the second reply; and a request may still arrive, and be carried out, long after
its sender has given it up, closed the connection, and gone on with others.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

FAULTS = ("request", "half a request", "reply", "half a reply")
"""What can get lost, the connection with it."""

LATE_FAULTS = ("late request", "late reply")
"""What comes after the time that `late_s` says, the connection being as good as before. A request
comes even if its sender has gone away meanwhile."""

REPEATED_FAULTS = ("request twice", "request again, late")
"""What is carried out twice: at the same time, or once more later. One reply comes back."""

REPLY_FAULTS = frozenset({"reply", "half a reply", "late reply"})
STRAY_FAULTS = frozenset({"late request", *REPEATED_FAULTS})
"""A request comes over a connection of its own, whose reply nobody sees."""

ALL_FAULTS = (*FAULTS, *LATE_FAULTS, *REPEATED_FAULTS)

REPLY_LIMIT_S = 1.0
"""How long the reply to a request whose sender is not told is waited for."""


class FaultyProxy:
    """A TCP listener on this machine in front of a server's unix socket.

    >>> async with FaultyProxy(socket_path, seed=7, fault_rate=0.2) as proxy:
    ...     proxy.is_armed = True  # from now on `fault_rate` of the exchanges break
    """

    def __init__(
        self,
        socket_path: str,
        *,
        seed: int,
        fault_rate: float,
        faults: Sequence[str] = FAULTS,
        late_s: float = 1.0,
    ) -> None:
        self.is_armed = False
        self.faults: Counter[str] = Counter()
        self._socket_path = socket_path
        self._random = random.Random(seed)
        self._fault_rate = fault_rate
        self._kinds = tuple(faults)
        self._late_s = late_s
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._strays: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def arm(self, faults: Sequence[str]) -> None:
        """Break exchanges in these ways from now on; in none, where there is none."""
        self.is_armed, self._kinds = bool(faults), tuple(faults)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is on its way that nobody waits for any more."""
        return not self._strays

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1")
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        tasks = self._tasks | self._strays
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        streams = [writer]
        try:
            with suppress(OSError):  # the server is away, or either side has gone
                up_reader, up_writer = await asyncio.open_unix_connection(self._socket_path)
                streams.append(up_writer)
                await self._exchange(reader, writer, up_reader, up_writer)
        finally:
            for stream in streams:
                stream.close()
                with suppress(OSError):
                    await stream.wait_closed()

    async def _exchange(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        up_reader: asyncio.StreamReader,
        up_writer: asyncio.StreamWriter,
    ) -> None:
        """Pass bytes on in both directions until one side ends or a fault strikes."""
        doomed: list[str] = []

        async def requests() -> None:
            while chunk := await reader.read(1 << 20):
                if not await self._forward(chunk, up_writer, doomed):
                    return

        async def replies() -> None:
            while chunk := await up_reader.read(1 << 20):
                if doomed and doomed[0] == "late reply":
                    doomed.clear()
                    await asyncio.sleep(self._delay_s())
                elif doomed:
                    writer.write(chunk[: len(chunk) // 2] if doomed[0] == "half a reply" else b"")
                    await writer.drain()
                    return
                writer.write(chunk)
                await writer.drain()

        directions = {asyncio.create_task(requests()), asyncio.create_task(replies())}
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for direction in directions:
                direction.cancel()
            await asyncio.gather(*directions, return_exceptions=True)

    async def _forward(
        self, request: bytes, up_writer: asyncio.StreamWriter, doomed: list[str]
    ) -> bool:
        """Send a request on, as a fault may have it; return whether the connection stays."""
        fault = self._draw(request)
        if fault == "request":
            return False
        if fault in REPLY_FAULTS:
            doomed.append(fault)
        if fault in STRAY_FAULTS:
            self._stray(request, 0.0 if fault == "request twice" else self._delay_s())
        if fault != "late request":
            is_cut = fault == "half a request"
            up_writer.write(request[: len(request) // 2] if is_cut else request)
            await up_writer.drain()
        return fault != "half a request"

    def _stray(self, request: bytes, delay_s: float) -> None:
        """Have a request carried out over a connection of its own, its reply dropped."""
        task = asyncio.create_task(self._carry_out(request, delay_s))
        self._strays.add(task)
        task.add_done_callback(self._strays.discard)

    async def _carry_out(self, request: bytes, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        with suppress(OSError, TimeoutError):
            reader, writer = await asyncio.open_unix_connection(self._socket_path)
            try:
                writer.write(request)
                await asyncio.wait_for(reader.read(1 << 20), REPLY_LIMIT_S)
            finally:
                writer.close()

    def _delay_s(self) -> float:
        return self._late_s * self._random.uniform(0.5, 2)

    def _draw(self, chunk: bytes) -> str | None:
        if not self.is_armed or self._random.random() >= self._fault_rate:
            return None
        fault = self._random.choice(self._kinds)
        if fault not in FAULTS and not chunk.startswith(b"*"):
            return None  # the rest of a request, which means nothing by itself
        self.faults[fault] += 1
        return fault
