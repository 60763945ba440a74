"""What several tests need: waiting on a condition, and a server of one's own making."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self, TypeVar

import redis

from eventlog.server_binary import find_server_binary
from tests.certificates import Certificates

SERVER_BINARY = os.environ.get("TEST_SERVER_BINARY") or None
"""Runs instead of the bundled server, wherever a test starts one without naming a program."""

POLL_INTERVAL_S = 0.005

T = TypeVar("T")


async def eventually(condition: Callable[[], T | Awaitable[T]], timeout_s: float = 10) -> T:
    """Return the first truthy value of `condition`, plain or awaitable; fail when time is up."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        found = condition()
        value: T = await found if inspect.isawaitable(found) else found
        if value:
            return value
        assert time.monotonic() < deadline_s, f"not within {timeout_s} s: {_named(condition)}"
        await asyncio.sleep(POLL_INTERVAL_S)


def eventually_sync(condition: Callable[[], T], timeout_s: float = 10) -> T:
    """Return the first truthy value of `condition`; fail when time is up. Not inside a loop."""
    deadline_s = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline_s, f"not within {timeout_s} s: {_named(condition)}"
        time.sleep(POLL_INTERVAL_S)
    return value


def _named(condition: Callable[[], object]) -> str:
    code = getattr(condition, "__code__", None)
    name = getattr(condition, "__qualname__", repr(condition))
    return f"{name} ({Path(code.co_filename).name}:{code.co_firstlineno})" if code else name


def free_port() -> int:
    """Return a TCP port of this machine that nothing listens on just now."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port <= 55_535:  # a cluster node listens on port + 10,000 too
            return port


class RawServer:
    """A server with any configuration, in `folder`, on a unix socket or a free TCP port.

    >>> with RawServer(tmp_path, requirepass="secret") as server: connect(settings, server.url)

    Options are the server's own, `_` for `-`; AOF and snapshots are off unless asked for. With `tls`
    its TCP port speaks nothing else.
    """

    def __init__(
        self,
        folder: Path,
        *,
        tcp: bool = False,
        tls: Certificates | None = None,
        binary: str | None = None,
        **options: str | int,
    ) -> None:
        self.folder = folder
        self.port = free_port() if tcp or tls else 0
        self._tls = tls
        self._binary = find_server_binary(binary or SERVER_BINARY)
        self._socket = folder / "raw.sock"
        self.options: dict[str, str | int] = {
            "save": "",
            "appendonly": "no",
            "dir": str(folder),
            **options,
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        if self._tls:
            return f"rediss://127.0.0.1:{self.port}?{self._tls.query}"
        return f"redis://127.0.0.1:{self.port}" if self.port else f"unix://{self._socket}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended by itself."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Return when the server answers, also after `stop` or `kill`."""
        # Signals that Python ignores it ignores as well: of a write beyond a limit it hears by errno.
        self._process = subprocess.Popen(
            self._command(), stdout=subprocess.DEVNULL, restore_signals=False
        )
        try:
            eventually_sync(self._answers)
        except BaseException:
            self.kill()
            raise
        return self

    @property
    def listening(self) -> dict[str, str | int]:
        """The options that say on which TCP port it listens, and for what."""
        if self._tls:
            return {"port": 0, "tls_port": self.port, **self._tls.of_server}
        return {"port": self.port}

    def client(self, **options: Any) -> redis.Redis:
        """Return a client of its TCP port."""
        tls: dict[str, Any] = {"ssl": True, **self._tls.of_client} if self._tls else {}
        return redis.Redis(port=self.port, host="127.0.0.1", socket_timeout=5, **tls, **options)

    def _command(self) -> list[str]:
        options = {
            **self.options,
            **self.listening,
            "logfile": str(self.folder / "raw.log"),
            **({"bind": "127.0.0.1"} if self.port else {"unixsocket": str(self._socket)}),
        }
        words = [w for k, v in options.items() for w in (f"--{k.replace('_', '-')}", str(v))]
        return [self._binary, *words]

    def stop(self) -> None:
        """End the server in order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the server at once, as a crash does."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        # A test may have suspended it. Popen sends nothing to a process that has ended.
        self._process.send_signal(signal.SIGCONT)
        self._process.send_signal(how)
        self._process.wait(timeout=20)
        self._process = None

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "raw.log").read_text()
        family, address = (
            (socket.AF_INET, ("127.0.0.1", self.port))
            if self.port
            else (socket.AF_UNIX, str(self._socket))
        )
        with ExitStack() as open_sockets:
            connection = open_sockets.enter_context(socket.socket(family, socket.SOCK_STREAM))
            connection.settimeout(1)
            try:
                connection.connect(address)
                if self._tls:
                    wrapped = self._tls.context().wrap_socket(
                        connection, server_hostname="127.0.0.1"
                    )
                    connection = open_sockets.enter_context(wrapped)
                connection.sendall(b"PING\r\n")
                reply = connection.recv(64)
            except OSError:
                return False
        # NOAUTH and the like are answers too; a server that is loading is not yet of use.
        return bool(reply) and not reply.startswith(b"-LOADING")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


async def turns(count: int = 1) -> None:
    """Let the event loop run what is ready, `count` times over; no time passes."""
    for _ in range(count):
        await asyncio.sleep(0)
