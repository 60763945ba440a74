"""A way between a primary and its replica that can be cut, with all that is on it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Self


class Cable:
    """A TCP listener on this machine that passes bytes on to a port, until it is cut.

    Both ends of a cut cable go on believing in it: nothing is closed, nothing arrives.
    """

    def __init__(self, to_port: int) -> None:
        self._to_port = to_port
        self._is_cut = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def cut(self) -> None:
        self._is_cut = True

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

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            with suppress(
                OSError, asyncio.CancelledError
            ):  # the server is away; or this one closes
                up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._to_port)
                try:
                    await asyncio.gather(
                        self._pass(reader, up_writer), self._pass(up_reader, writer)
                    )
                finally:
                    up_writer.close()
        finally:
            writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(1 << 16):
            if not self._is_cut:
                writer.write(chunk)
                await writer.drain()
