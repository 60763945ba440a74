"""A way to the server on which things get lost: seeded, so that a failure can be seen again."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import suppress
from types import TracebackType
from typing import Self

FAULTS = ("request", "half a request", "reply", "half a reply")
"""What can get lost, the connection with it."""


class FaultyProxy:
    """A TCP listener on this machine in front of a server's unix socket.

    >>> async with FaultyProxy(socket_path, seed=7, fault_rate=0.2) as proxy:
    ...     proxy.is_armed = True  # from now on `fault_rate` of the exchanges break
    """

    def __init__(self, socket_path: str, *, seed: int, fault_rate: float) -> None:
        self.is_armed = False
        self.faults: Counter[str] = Counter()
        self._socket_path = socket_path
        self._random = random.Random(seed)
        self._fault_rate = fault_rate
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

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
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        up_reader, up_writer = await asyncio.open_unix_connection(self._socket_path)
        try:
            await self._exchange(reader, writer, up_reader, up_writer)
        finally:
            for stream in (writer, up_writer):
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
                fault = self._draw()
                if fault == "request":
                    return
                if fault == "half a request":
                    up_writer.write(chunk[: len(chunk) // 2])
                    await up_writer.drain()
                    return
                if fault is not None:
                    doomed.append(fault)
                up_writer.write(chunk)
                await up_writer.drain()

        async def replies() -> None:
            while chunk := await up_reader.read(1 << 20):
                if doomed:
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

    def _draw(self) -> str | None:
        if not self.is_armed or self._random.random() >= self._fault_rate:
            return None
        fault = self._random.choice(FAULTS)
        self.faults[fault] += 1
        return fault
