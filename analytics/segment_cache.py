"""Segments of a bucket on this machine's disk, shared by all its processes.

    ROOT/day=2026-11-20/p0003-…~TOKEN.parquet     one version of a segment, whole and checked
    ROOT/arriving/, ROOT/staging/                 files on their way from and to the bucket
    ROOT/pins/ID/                                 links to what a query of a living process reads

A file gets its name when it is whole. Its time of change is set to one that its token gives: whoever
writes to it afterwards changes that, and it is fetched again. Its time of access is when it was last
asked for; what was not for longest goes first when there is too much. A pinned file has a second
name, so that nothing another process does takes it from a query.
"""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import os
import shutil
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

from eventlog.clock import SYSTEM_CLOCK, Clock
from eventlog.errors import ArchiveUnavailable
from eventlog.ids import new_event_id
from eventlog.logs import get_logger

TEMPORARY_SUFFIX = ".tmp"
GRACE_S = 10.0
"""Who was given a path opens it within: such a file stays, even where there is too much."""

_FOLDERS = ("arriving", "staging", "pins")
_log = get_logger("segment_cache")


class SegmentCache:
    """The cached segments of one archive, up to `limit_bytes` of them. Safe in threads."""

    def __init__(self, root: Path, limit_bytes: int, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self.root = root
        self._limit_bytes = limit_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._used_bytes: int | None = None
        """At most what this process knows of: None, it has not looked yet."""
        self._pins = _Pins(root / "pins")

    def find(self, name: str, version: str, size_bytes: int) -> Path | None:
        """Return the file of that version of a segment, None where it is not there as it was."""
        path, sealed_ns = self._path(name, version)
        if not path.exists():
            self._pins.restore(path)
        try:
            found = path.stat()
            if found.st_size == size_bytes and found.st_mtime_ns == sealed_ns:
                os.utime(path, ns=(self._now_ns(), sealed_ns))
                return path
        except FileNotFoundError:
            return None
        _log.warning("cached_segment_changed", path=str(path))
        path.unlink(missing_ok=True)
        return None

    def new_path(self, name: str, folder: str) -> Path:
        """Return a temporary path of a file that will be `arriving` or is `staging`."""
        where = self._made(self.root / folder)
        return where / f".{name.replace('/', '.')}.{new_event_id()}{TEMPORARY_SUFFIX}"

    def adopt(self, temporary: Path, name: str, version: str) -> Path:
        """Give a temporary file, whole and synced, its name; make room if there is too much."""
        path, sealed_ns = self._path(name, version)
        size_bytes = temporary.stat().st_size
        os.utime(temporary, ns=(self._now_ns(), sealed_ns))
        self._made(path.parent)
        temporary.replace(path)
        with self._lock:
            if self._used_bytes is not None:
                self._used_bytes += size_bytes
            if self._used_bytes is None or self._used_bytes > self._limit_bytes:
                self._make_room()
        return path

    def keep(self, versions: Mapping[str, str]) -> None:
        """Delete every file but those of these versions by name: others were replaced or removed."""
        current = {self._path(name, version)[0] for name, version in versions.items()}
        for file in self._files():
            if file not in current:
                file.unlink(missing_ok=True)
        with self._lock:
            self._used_bytes = None

    def pin(self, paths: Iterable[Path]) -> list[Path]:
        """Return paths at which these files stay until the next call, whatever happens to them.

        Where one is not there, neither is what its path names.
        """
        return self._pins.hold(list(paths), self.root)

    def sweep(self, age_s: float) -> int:
        """Delete temporary files older than that, and pins of processes that are gone."""
        swept = 0
        for file in self._temporary(*_FOLDERS[:2]):
            with suppress(FileNotFoundError):
                if self._clock.now_us() / 1e6 - file.stat().st_mtime > age_s:
                    file.unlink()
                    swept += 1
        self._pins.sweep()
        return swept

    def temporary_count(self) -> int:
        """Return how many files are being written, or were left by a crash."""
        return sum(1 for _ in self._temporary("staging"))

    def absent(self, name: str) -> Path:
        """Return a path where nothing ever is: that of a segment which the bucket does not have."""
        return self.root / name

    # --- files -------------------------------------------------------------------------------------

    def _path(self, name: str, version: str) -> tuple[Path, int]:
        token = hashlib.sha256(version.encode()).hexdigest()[:16]
        # Between 2000 and 2008: every file system can hold it, and nothing else is that old.
        sealed_ns = (946_684_800 + int(token[:7], 16)) * 10**9
        path = self.root / name
        return path.with_name(f"{path.stem}~{token}{path.suffix}"), sealed_ns

    def _made(self, folder: Path) -> Path:
        """Return a folder of the cache, made if it is missing, for this user alone."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.mkdir(exist_ok=True, mode=0o700)
        return folder

    def _make_room(self) -> None:
        """Delete what was not asked for for longest until the rest is no more than it may be."""
        self._pins.sweep()
        found = []
        for file in self._files():
            with suppress(FileNotFoundError):
                stat = file.stat()
                found.append((stat.st_atime_ns, stat.st_size, file))
        used_bytes = sum(size for _, size, _ in found)
        youngest_ns = self._now_ns() - int(GRACE_S * 1e9)
        for used_ns, size, file in sorted(found):
            if used_bytes <= self._limit_bytes or used_ns > youngest_ns:
                break
            file.unlink(missing_ok=True)
            used_bytes -= size
        self._used_bytes = used_bytes

    def _files(self) -> Iterator[Path]:
        with suppress(FileNotFoundError):
            for folder in os.scandir(self.root):
                if folder.name not in _FOLDERS and folder.is_dir():
                    with suppress(FileNotFoundError):
                        yield from [Path(file.path) for file in os.scandir(folder)]

    def _temporary(self, *folders: str) -> Iterator[Path]:
        for folder in folders:
            yield from (self.root / folder).glob(f".*{TEMPORARY_SUFFIX}")

    def _now_ns(self) -> int:
        return self._clock.now_us() * 1000


class _Pins:
    """Second names of files that this process reads, in a folder of its own.

    A lock on a file beside the folder says that the process lives.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._folder: Path | None = None
        self._alive: IO[bytes] | None = None
        self._process = 0
        self._held: dict[Path, Path] = {}

    def hold(self, paths: list[Path], root: Path) -> list[Path]:
        with self._lock:
            if not paths:
                self._release()
                return []
            folder = self._open()
            held = {path: folder / path.relative_to(root) for path in paths}
            for path in self._held.keys() - held.keys():
                self._held[path].unlink(missing_ok=True)
            self._held = held
            for path, pin in held.items():
                with suppress(FileNotFoundError):
                    _link(path, pin)
            return [held[path] for path in paths]

    def restore(self, path: Path) -> None:
        """Give a file its own name back, which another process took when there was too much."""
        with self._lock, suppress(FileNotFoundError, FileExistsError):
            if path in self._held and self._process == os.getpid():
                os.link(self._held[path], path)

    def sweep(self) -> None:
        """Delete the folders of processes that are gone."""
        for beside in self._root.glob("*.lock"):
            with suppress(FileNotFoundError), beside.open("rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                shutil.rmtree(beside.with_suffix(""), ignore_errors=True)
                beside.unlink(missing_ok=True)

    def _open(self) -> Path:
        if self._folder is None or self._process != os.getpid():
            self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder = self._root / new_event_id()
            # Locked before it has a name that others look for.
            unnamed = folder.with_suffix(".new")
            self._alive = unnamed.open("wb")
            fcntl.flock(self._alive, fcntl.LOCK_EX)
            unnamed.rename(folder.with_suffix(".lock"))
            folder.mkdir(mode=0o700)
            self._folder, self._process, self._held = folder, os.getpid(), {}
            atexit.register(self._release)
        return self._folder

    def _release(self) -> None:
        if self._folder is None or self._alive is None or self._process != os.getpid():
            return  # a forked process does not tidy up for its parent
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.with_suffix(".lock").unlink(missing_ok=True)
        self._alive.close()
        self._folder, self._alive, self._held = None, None, {}
        atexit.unregister(self._release)


def _link(path: Path, pin: Path) -> None:
    """Let `pin` be a second name of the file at `path`, and of no other that had that name before."""
    if pin.exists():
        if pin.samefile(path):
            return
        pin.unlink()
    pin.parent.mkdir(exist_ok=True, mode=0o700)
    os.link(path, pin)


def unusable(root: Path, error: OSError) -> ArchiveUnavailable:
    """Return the error of a cache that cannot be written to."""
    return ArchiveUnavailable(
        f"segments cannot be kept in {root}: {error.strerror or error}.",
        remedy="Make room there, or name another place in `archive_cache_dir`.",
    )
