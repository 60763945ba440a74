"""What a process of a run is told: its role, its name, and where everything is."""

from __future__ import annotations

import asyncio
import mmap
import struct
from pathlib import Path
from typing import NamedTuple

import msgspec

from eventlog import EventLog, Settings
from eventlog.clock import SystemClock
from tests.fault.journal import JournalFile
from tests.fault.whole.plan import Role


class Job(msgspec.Struct, frozen=True):
    """What is handed to a process as JSON."""

    role: Role
    name: str
    """Its journal's, and its successors'."""
    url: str
    folder: str
    settings: Settings
    seed: int
    events_per_s: int
    round_s: float = 0
    rest_s: float = 0
    """Who appends rests for so long in each round; 0 never."""
    broken: tuple[str, ...] = ()

    @property
    def journal(self) -> Path:
        return Path(self.folder) / f"{self.name}.jsonl"

    @property
    def done(self) -> Path:
        """Exists from when whoever appends is to append no more."""
        return Path(self.folder) / "done"


class Post(NamedTuple):
    """What a process works with, once it has begun."""

    job: Job
    log: EventLog
    journal: JournalFile
    stop: asyncio.Event


def offset_file(folder: Path, name: str) -> Path:
    """Return the file that says how far a process's clock is off: µs, 8 bytes, signed."""
    return folder / f"{name}.clock"


def set_offset(folder: Path, name: str, offset_us: int) -> None:
    """Have a process's wall clock jump to so much off the machine's, at once."""
    with offset_file(folder, name).open("r+b" if offset_file(folder, name).exists() else "wb") as f:
        f.write(struct.pack("<q", offset_us))


class OffsetClock(SystemClock):
    """The machine's clock, but for a wall clock that is off by what a file says, and by `ahead_us`."""

    def __init__(self, folder: Path, name: str, ahead_us: int = 0) -> None:
        self._ahead_us = ahead_us
        with offset_file(folder, name).open("rb") as file:
            self._offset = mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ)

    def now_us(self) -> int:
        offset_us: int = struct.unpack("<q", self._offset[:8])[0]
        return super().now_us() + self._ahead_us + offset_us
