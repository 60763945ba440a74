"""The command line as a user starts it: a process of its own, on a data directory of its own."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import signal
import struct
import sys
import termios
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import psutil

COMMAND = (sys.executable, "-m", "service")
TIMEOUT_S = 30
AT_ONCE = 4

T = TypeVar("T")


class Result(NamedTuple):
    code: int
    out: str
    err: str

    def json(self) -> Any:
        [document] = self.documents()
        return document

    def documents(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


class Cli:
    """Commands on the log in `folder`, with `settings` in their environment."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.data = folder / "data"
        self._settings = settings

    def environment(self, **changes: str) -> dict[str, str]:
        # FORCE_COLOR and the like of the developer's shell must not change what is printed.
        kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG", "TMPDIR")}
        # Any port: tests run beside each other.
        ours = {"EVENTLOG_DATA_DIR": str(self.data), "TERM": "dumb", "EVENTLOG_HTTP_PORT": "0"}
        ours |= self._settings
        return {**kept, **ours, **changes}

    async def run(self, *words: str | Path, stdin: bytes = b"", **settings: str) -> Result:
        """Return what the command left behind when it ended by itself."""
        process = await self._start(words, settings, stdin=asyncio.subprocess.PIPE)
        return await finish(process, stdin)

    async def shell(self, script: str) -> Result:
        """Return what a shell script left behind in which `eventlog` is the command."""
        words = " ".join(COMMAND)
        process = await asyncio.create_subprocess_exec(
            "bash",
            "-c",
            f'set -o pipefail; eventlog() {{ {words} "$@"; }}; {script}',
            cwd=self.folder,
            env=self.environment(),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        return await finish(process)

    async def terminal(self, *words: str, columns: int = 80) -> tuple[int, str]:
        """Return exit code and screen of the command on a terminal of that width."""
        parent, child = pty.openpty()
        fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            *words,
            cwd=self.folder,
            env=self.environment(NO_COLOR="1"),
            stdout=child,
            stderr=child,
        )
        os.close(child)
        screen = await asyncio.to_thread(_read_all, parent)
        os.close(parent)
        return await process.wait(), screen.replace("\r\n", "\n")

    @asynccontextmanager
    async def running(self, *words: str, **settings: str) -> AsyncIterator[Running]:
        """Give the command while it runs; it is killed where the block left it running."""
        process = await self._start(words, settings, stdin=asyncio.subprocess.DEVNULL)
        try:
            yield Running(process)
        finally:
            if process.returncode is None:
                process.kill()
                await finish(process)

    async def _start(
        self, words: tuple[str | Path, ...], settings: dict[str, str], *, stdin: int
    ) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *COMMAND,
            *map(str, words),
            cwd=self.folder,
            env=self.environment(**settings),
            stdin=stdin,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )


async def side_by_side(commands: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Return what the commands return, a few of them running at a time."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(command: Coroutine[Any, Any, T]) -> T:
        async with room:
            return await command

    return await asyncio.gather(*map(one, commands))


class Running:
    """A command that goes on until it is told to stop."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def line(self) -> str:
        """Return the next line of standard output."""
        return await self._next(self._process.stdout)

    async def said(self, text: str) -> str:
        """Return the first line with the text that comes on standard error."""
        while text not in (line := await self._next(self._process.stderr)):
            pass
        return line

    async def _next(self, stream: asyncio.StreamReader | None) -> str:
        assert stream is not None
        async with asyncio.timeout(TIMEOUT_S):
            line = await stream.readline()
        assert line, f"it ended: {await finish(self._process)}"
        return line.decode()

    async def stop(self, how: signal.Signals) -> Result:
        """Return what is left to read after the signal has ended it."""
        self._process.send_signal(how)
        return await finish(self._process)


async def finish(process: asyncio.subprocess.Process, stdin: bytes | None = None) -> Result:
    async with asyncio.timeout(TIMEOUT_S):
        out, err = await process.communicate(stdin)
    assert process.returncode is not None
    return Result(process.returncode, out.decode(), err.decode())


def processes_of(folder: Path) -> list[str]:
    """Return the commands of living processes that have to do with the folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        command = " ".join(process.info["cmdline"] or [])
        if str(folder) in command and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(command)
    return found


def _read_all(descriptor: int) -> str:
    content = b""
    while True:
        try:
            part = os.read(descriptor, 65536)
        except OSError:  # the terminal's other side is closed
            part = b""
        if not part:
            return content.decode()
        content += part
