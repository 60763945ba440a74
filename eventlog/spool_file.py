"""A spool: events on this machine's own disk, waiting for the server to come back.

One file per open log, in JSON lines: a header, then one line per event with its position, which only
grows. Its owner holds the kernel's lock on it, so whose process has died is known without a process
id being trusted, and whoever takes the lock may empty the file.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import weakref
from pathlib import Path
from typing import NamedTuple, Self

import msgspec

from eventlog.ids import new_event_id
from eventlog.logs import get_logger
from eventlog.settings import Durability

SUFFIX = ".spool"
READ_BYTES = 1024 * 1024
"""Taken from the file at a time, one line at least."""
MAX_LINES = 500
"""Taken from the file at a time: as many as fit into one script call."""

_log = get_logger("spool")


class SpoolHeader(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which log the events are for. `epoch` is the log's own, "" where it was never reached."""

    log: str
    server: str
    epoch: str = ""

    def is_for(self, other: SpoolHeader) -> bool:
        """Return whether both name one log: the same server, or the same epoch wherever it is."""
        same_epoch = bool(self.epoch) and self.epoch == other.epoch
        return self.log == other.log and (same_epoch or self.server == other.server)


class SpoolLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """One event: `n` is its position in the spool, `event` its JSON, byte for byte."""

    n: int
    event: msgspec.Raw
    entity: str | None = None
    mark: str = ""
    durability: Durability = "memory"


class Routed(msgspec.Struct):
    """What is to be known of an event to send it on."""

    id: str
    conversation: str


class SpoolPage(NamedTuple):
    """What was read, and where the next page begins."""

    lines: list[SpoolLine]
    end: int


class SpoolFile:
    """A file whose lock this process holds. Blocking: call it from a thread."""

    def __init__(self, path: Path, descriptor: int, header_bytes: int) -> None:
        self.path = path
        self.size_bytes = os.fstat(descriptor).st_size
        self._descriptor = descriptor
        self._pid = os.getpid()
        self._damaged_count = 0
        self._start = header_bytes
        self._drained = self._start
        _open_files.add(self)

    @property
    def name(self) -> str:
        """Unique among all spools ever: its producer's name in the log."""
        return f"spool:{self.path.stem}"

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits in it."""
        return self._drained >= self.size_bytes

    @classmethod
    def create(cls, folder: Path, header: SpoolHeader) -> Self:
        """Return a new, empty spool. OSError where the disk does not take it."""
        path = folder / f"{new_event_id()}{SUFFIX}"
        hidden = path.with_suffix(".new")  # nobody may find it before it is locked
        descriptor = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            first = msgspec.json.encode(header) + b"\n"
            os.write(descriptor, first)
            os.fsync(descriptor)
            hidden.rename(path)
            _sync_folder(folder)
            return cls(path, descriptor, len(first))
        except BaseException:
            os.close(descriptor)
            hidden.unlink(missing_ok=True)
            raise

    @classmethod
    def adopt(cls, path: Path, ours: SpoolHeader) -> Self | None:
        """Return a spool of our log whose owner has ended; None where it lives or is not ours."""
        try:
            descriptor = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            header, header_bytes = _read_header(descriptor)
        except (BlockingIOError, ValueError):
            os.close(descriptor)
            return None
        # Another may have emptied and removed it between our opening and our locking.
        if os.fstat(descriptor).st_nlink == 0 or not header.is_for(ours):
            os.close(descriptor)
            return None
        return cls(path, descriptor, header_bytes)

    def append(self, lines: list[SpoolLine]) -> None:
        """Return when the lines are on disk, all of them. OSError: none of them counts."""
        data = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(self._descriptor, data[written:], self.size_bytes + written)
            os.fsync(self._descriptor)
        except OSError:
            with contextlib.suppress(OSError):  # what is cut off later is overwritten, or torn
                os.ftruncate(self._descriptor, self.size_bytes)
            raise
        self.size_bytes += len(data)

    def next_page(self) -> SpoolPage:
        """Return the lines not drained yet, up to a page; unreadable ones are left out and told."""
        left_bytes = self.size_bytes - self._drained
        wanted_bytes = READ_BYTES
        while True:
            data = os.pread(self._descriptor, min(wanted_bytes, left_bytes), self._drained)
            if b"\n" in data or wanted_bytes >= left_bytes:
                break
            wanted_bytes *= 2  # one line is longer
        whole = data[: data.rfind(b"\n") + 1].splitlines(keepends=True)[:MAX_LINES]
        if not whole:
            if data:  # its writer died in the middle of it, and was never told it was kept
                _log.warning("spool_torn", path=str(self.path), torn_bytes=len(data))
            return SpoolPage([], self._drained + len(data))
        lines = [line for line in map(self._decode, whole) if line is not None]
        return SpoolPage(lines, self._drained + sum(map(len, whole)))

    def _decode(self, raw: bytes) -> SpoolLine | None:
        try:
            raw.decode()  # an event's text is not looked at below
            line = msgspec.json.decode(raw, type=SpoolLine)
            msgspec.json.decode(line.event, type=Routed)
        except ValueError as error:
            self._damaged_count += 1
            _log.error("spool_line_damaged", path=str(self.path), error=str(error))
            return None
        return line

    def drained(self, page: SpoolPage) -> None:
        """Go on behind the page, which is in the log."""
        self._drained = page.end

    def count_waiting(self) -> int:
        """Return how many events wait in it, read from the disk."""
        count, place = 0, self._drained
        while data := os.pread(self._descriptor, READ_BYTES, place):
            count += data.count(b"\n")
            place += len(data)
        return count

    def clear(self) -> None:
        """Make a drained spool small again. Positions go on growing, so nothing can come twice."""
        if not self._damaged_count:
            os.ftruncate(self._descriptor, self._start)
            self.size_bytes = self._drained = self._start

    def close(self) -> None:
        """Let go of the file: removed where it is empty, kept for the next owner where not."""
        if self not in _open_files:
            return
        _open_files.discard(self)
        if self._pid == os.getpid() and self.is_empty:
            if self._damaged_count:
                self.path.rename(self.path.with_suffix(".damaged"))
            else:
                self.path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                _sync_folder(self.path.parent)
        os.close(self._descriptor)
        self._descriptor = -1  # never the number of another file


def waiting_files(folder: Path) -> list[Path]:
    """Return the spools in the folder, the oldest first."""
    return sorted(folder.glob(f"*{SUFFIX}"))


def waiting_bytes(folder: Path) -> int:
    """Return how much all spools in the folder hold, headers included."""
    total = 0
    for path in waiting_files(folder):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def waiting_counts(folder: Path, ours: SpoolHeader) -> dict[str, int]:
    """Return spool → events that wait in it, of our log, whoever owns them; empty ones left out."""
    found = {}
    for path in waiting_files(folder):
        with contextlib.suppress(FileNotFoundError, ValueError), path.open("rb") as file:
            if _read_header(file.fileno())[0].is_for(ours):
                file.seek(0)
                found[path.name] = sum(1 for line in file if line.endswith(b"\n")) - 1
    return {name: count for name, count in found.items() if count > 0}


def _read_header(descriptor: int) -> tuple[SpoolHeader, int]:
    """Return the header and how many bytes it takes; ValueError where there is none."""
    first, newline, _ = os.pread(descriptor, 64 * 1024, 0).partition(b"\n")
    if not newline:
        raise ValueError("no header")
    return msgspec.json.decode(first, type=SpoolHeader), len(first) + 1


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_open_files: weakref.WeakSet[SpoolFile] = weakref.WeakSet()


def _let_go_after_fork() -> None:
    # A child shares its parent's lock. Without this a dead parent's spool would stay locked for as
    # long as the child lives; closing the copy leaves the parent's own lock alone.
    for file in list(_open_files):
        file.close()


os.register_at_fork(after_in_child=_let_go_after_fork)
