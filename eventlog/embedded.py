"""A private server for a data directory: started by the first opener, stopped by the last.

Three locks in the directory say all there is to know, and the kernel drops them with their process,
so no crash leaves a wrong answer behind and no process id is ever trusted:

    start.lock   exclusive, while someone starts or stops the server
    users.lock   shared, one per opener for its life; whoever can make it exclusive is the last
    server.lock  exclusive, inherited by the server process itself: held means a server lives
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import socket
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from eventlog.clock import SYSTEM_CLOCK, Clock
from eventlog.errors import EmbeddedServerFailed
from eventlog.server_binary import OTHER_SERVER, find_server_binary
from eventlog.settings import Settings

START_LIMIT_S = 15.0
"""A server that says nothing for so long has failed."""
LOAD_LIMIT_S = 600.0
"""A server that says it is loading its file may take so long."""
STOP_LIMIT_S = 60.0
POLL_INTERVAL_S = 0.003
PROBE_TIMEOUT_S = 1.0
MAX_LAUNCH_COUNT = 3
"""A server killed while it starts is started again, but one that cannot start is not forever."""
MAX_SOCKET_PATH_BYTES = 100
"""The kernel takes 107 bytes on Linux, 103 on macOS."""
LOG_TAIL_LINES = 8

Answer = Literal["ready", "loading", "silent"]


class EmbeddedServer:
    """The server of `settings.data_path`, shared by every process that opens the directory.

    Blocking: call it from a thread. Each object is one user of the server, whatever the process.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock = SYSTEM_CLOCK,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._pause = pause
        self._directory = settings.data_path / "server"
        self._mutex = threading.Lock()
        self._membership: int | None = None
        self._member_pid = 0
        self._socket: Path | None = None

    @property
    def directory(self) -> Path:
        """The server's files: locks, log, socket and append-only file."""
        return self._directory

    @property
    def log_file(self) -> Path:
        """The server's own log since its last start."""
        return self._directory / "server.log"

    @property
    def pid(self) -> int | None:
        """The process id of the living server, or None; for people and tests, never for control."""
        lock = self._lock("server", fcntl.LOCK_SH) if self._directory.exists() else None
        if lock is not None:
            os.close(lock)
            return None
        try:
            return int((self._directory / "server.pid").read_text())
        except (OSError, ValueError):
            return None

    def start(self) -> str:
        """Return the `unix://` URL of a living server: adopted, or started where there is none.

        Call it again at will, after a lost connection for one: while the server answers that costs
        one round trip. Raises EmbeddedServerFailed.
        """
        with self._mutex:
            self._forget_after_fork()
            if self._membership is not None and self._ask_server() == "ready":
                return self._url()
            self._prepare_directory()
            with self._exclusive(START_LIMIT_S + LOAD_LIMIT_S):
                joined = self._join()
                try:
                    self._ensure_running()
                except BaseException:
                    if joined:
                        self._leave()
                    raise
            return self._url()

    def release(self) -> None:
        """Give up this user's claim, and stop the server where nobody else has one.

        Returns when the server has flushed its file and its process is gone. Idempotent. Raises
        EmbeddedServerFailed where the server does not stop.
        """
        with self._mutex:
            self._forget_after_fork()
            if self._membership is None:
                return
            try:
                with self._exclusive(START_LIMIT_S):
                    if _try_flock(self._membership, fcntl.LOCK_EX):
                        self._stop()
            except FileNotFoundError:
                raise EmbeddedServerFailed(
                    f"{self._directory} is gone, but its server may still run.",
                    remedy=f"End the process that has {self._directory} among its arguments.",
                ) from None
            finally:
                self._leave()

    def forget_parent(self) -> None:
        """In a forked child: let go of what is the parent's, whatever it was doing just then."""
        self._mutex = threading.Lock()
        self._forget_after_fork()

    # --- users

    def _join(self) -> bool:
        if self._membership is not None:
            return False
        # Only holders of start.lock take or test this one, hence it is free or shared here.
        self._membership = self._lock("users", fcntl.LOCK_SH)
        self._member_pid = os.getpid()
        return True

    def _leave(self) -> None:
        if self._membership is not None:
            os.close(self._membership)
            self._membership = None

    def _forget_after_fork(self) -> None:
        # A child shares its parent's lock; closing the copy leaves the parent's claim alone.
        if self._membership is not None and self._member_pid != os.getpid():
            self._leave()

    # --- life of the server

    def _ensure_running(self) -> None:
        deadline_s = self._clock.monotonic_s() + START_LIMIT_S
        load_deadline_s = self._clock.monotonic_s() + LOAD_LIMIT_S
        launch_count = 0
        while (answer := self._ask_server()) != "ready":
            if answer == "loading":
                deadline_s = load_deadline_s
            elif (lock := self._lock("server", fcntl.LOCK_EX)) is not None:
                try:
                    if launch_count == MAX_LAUNCH_COUNT:
                        raise self._failure("the embedded server ended while it started")
                    launch_count += 1
                    self._launch(lock)
                finally:
                    os.close(lock)
            if self._clock.monotonic_s() > deadline_s:
                raise self._failure(f"the embedded server (process {self.pid}) does not answer")
            self._pause(POLL_INTERVAL_S)

    def _launch(self, lock: int) -> None:
        if self.log_file.exists():
            self.log_file.replace(self.log_file.with_suffix(".log.old"))
        (self._directory / "server.pid").unlink(missing_ok=True)
        self._socket = self._choose_socket()
        (self._directory / "socket-path").write_text(
            "server.sock" if self._socket.parent == self._directory else str(self._socket)
        )
        command = [find_server_binary(self._settings.server_binary), *self._options(self._socket)]
        try:
            with self.log_file.open("ab") as log:
                # The process daemonizes itself: it leaves our session and is no child to wait for.
                ended = subprocess.run(  # noqa: S603 - the operator's own binary, no shell
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self._directory,
                    pass_fds=(lock,),
                    start_new_session=True,
                    timeout=START_LIMIT_S,
                    check=False,
                )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise self._failure(f"cannot run {command[0]}: {error}") from None
        if ended.returncode > 0:
            raise self._failure("the embedded server did not start")

    def _options(self, socket_path: Path) -> list[str]:
        options = {
            "daemonize": "yes",
            "port": "0",
            "unixsocket": str(socket_path),
            "unixsocketperm": "700",
            "dir": str(self._directory),
            "pidfile": str(self._directory / "server.pid"),
            "logfile": str(self.log_file),
            "save": "",
            "appendonly": "yes",
            # An append that waits for its fsync is answered at the server's next beat where nothing
            # else wakes it: ten milliseconds instead of a hundred, for 0.5 % of a core.
            "hz": "100",
            "appendfsync": "everysec",
            "aof-use-rdb-preamble": "yes",
            "aof-load-truncated": "yes",
            "maxmemory-policy": "noeviction",
        }
        return [word for name, value in options.items() for word in (f"--{name}", value)]

    def _stop(self) -> None:
        self._socket = self._recorded_socket()
        deadline_s = self._clock.monotonic_s() + STOP_LIMIT_S
        while (lock := self._lock("server", fcntl.LOCK_EX)) is None:
            # Sent again while it lives: a server that is still loading may not listen yet.
            _ask(self._socket, b"SHUTDOWN\r\n", timeout_s=PROBE_TIMEOUT_S)
            if self._clock.monotonic_s() > deadline_s:
                raise self._failure(f"the embedded server (process {self.pid}) does not stop")
            self._pause(POLL_INTERVAL_S)
        os.close(lock)

    def _ask_server(self) -> Answer:
        self._socket = self._recorded_socket()
        return classify(_ask(self._socket, b"PING\r\n", timeout_s=PROBE_TIMEOUT_S))

    # --- files

    def _prepare_directory(self) -> None:
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            # One real path, so that all openers agree on the socket whatever link they came by.
            self._directory = self._directory.resolve()
        except OSError as error:
            raise EmbeddedServerFailed(
                f"cannot create {self._directory}: {error.strerror}.",
                remedy=f"Choose another data_dir (EVENTLOG_DATA_DIR). {OTHER_SERVER}",
            ) from None
        make_private(self._directory)

    def _choose_socket(self) -> Path:
        near = self._directory / "server.sock"
        if len(os.fsencode(near)) <= MAX_SOCKET_PATH_BYTES:
            return near
        digest = hashlib.sha256(os.fsencode(self._directory)).hexdigest()[:8]
        runtime = os.environ.get("XDG_RUNTIME_DIR", "")
        bases = [Path(runtime)] if runtime and Path(runtime).is_dir() else []
        bases += [Path(tempfile.gettempdir()), Path("/tmp")]  # noqa: S108 - a private folder in it
        folders = [base / f"eventlog-{os.getuid()}-{digest}" for base in bases]
        folder = next(
            (f for f in folders if len(os.fsencode(f / near.name)) <= MAX_SOCKET_PATH_BYTES),
            folders[-1],
        )
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        make_private(folder)
        return folder / "server.sock"

    def _recorded_socket(self) -> Path:
        # Temporary directories differ between environments: only the starter knows which it took.
        try:
            return self._directory / (self._directory / "socket-path").read_text()
        except OSError:
            return self._directory / "server.sock"

    def _url(self) -> str:
        return f"unix://{quote(str(self._recorded_socket()))}"

    @contextlib.contextmanager
    def _exclusive(self, limit_s: float) -> Iterator[None]:
        deadline_s = self._clock.monotonic_s() + limit_s
        while (lock := self._lock("start", fcntl.LOCK_EX)) is None:
            if self._clock.monotonic_s() > deadline_s:
                raise self._failure("another process has been starting or stopping the server")
            self._pause(POLL_INTERVAL_S)
        try:
            yield
        finally:
            os.close(lock)

    def _lock(self, name: str, kind: int) -> int | None:
        lock = os.open(self._directory / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        if _try_flock(lock, kind):
            return lock
        os.close(lock)
        return None

    def _failure(self, what: str) -> EmbeddedServerFailed:
        tail = _last_lines(self.log_file, LOG_TAIL_LINES)
        shown = f" Its log ends:\n{tail}\n" if tail else ""
        return EmbeddedServerFailed(
            f"{what}.{shown}",
            remedy=f"Read {self.log_file}, or choose another data_dir or server_binary."
            f" {OTHER_SERVER}",
        )


def classify(reply: bytes) -> Answer:
    """Return what the reply to a PING says of a server; any reply but LOADING means it serves."""
    if not reply:
        return "silent"
    return "loading" if reply.startswith(b"-LOADING") else "ready"


def make_private(directory: Path) -> None:
    """Ensure that only this user can enter the directory. Raises EmbeddedServerFailed."""
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise EmbeddedServerFailed(
            f"{directory} is not a directory of this user (it is user {status.st_uid}'s).",
            remedy="Remove it, or choose another data_dir (EVENTLOG_DATA_DIR).",
        )
    if stat.S_IMODE(status.st_mode) != stat.S_IRWXU:
        directory.chmod(stat.S_IRWXU)


def _ask(socket_path: Path, command: bytes, *, timeout_s: float) -> bytes:
    """Return the first line of the reply, empty where there was none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        try:
            connection.connect(str(socket_path))
            connection.sendall(command)
            reply = b""
            while not reply.endswith(b"\n") and (part := connection.recv(4096)):
                reply += part
        except OSError:
            return b""
    return reply


def _try_flock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _last_lines(path: Path, count: int) -> str:
    try:
        with path.open("rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - 64 * 1024))
            lines = log.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-count:])
