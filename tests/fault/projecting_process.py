"""A process that projects the log at a URL until SIGTERM, and the handle to start it and strike it.

`python -m tests.fault.projecting_process URL OWNER SETTINGS`, the settings as JSON. It also ends when
its standard input does, hence with whoever started it. It reports on standard error.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from eventlog import EventLog, Settings
from eventlog.errors import LogUnavailable
from projections.projecting.projector import Projector

OPEN_TRIES = 3

StrikeKind = Literal["kill", "pause", "release"]
"""`kill -9`; SIGSTOP for longer than a lease, then SIGCONT; SIGTERM."""


class Struck(NamedTuple):
    """What happened to a worker, at a time of this process's monotonic clock."""

    kind: StrikeKind
    at_s: float


class ProjectingProcess:
    """A worker process, seen by the one who started it."""

    def __init__(self, url: str, owner: str, folder: Path, settings: Settings) -> None:
        self.owner = owner
        self.struck: Struck | None = None
        """None while nothing keeps it from its work; a paused one that wakes is sound again."""
        self._log_file = folder / f"{owner}.log"
        module = [sys.executable, "-m", "tests.fault.projecting_process"]
        with self._log_file.open("wb") as errors:
            self._process = subprocess.Popen(
                [*module, url, owner, msgspec.json.encode(settings)],
                stdin=subprocess.PIPE,  # never written to: it ends with this process
                stderr=errors,
                start_new_session=True,  # the terminal's Ctrl-C is for this process alone
            )

    def strike(self, kind: StrikeKind) -> None:
        """Kill, pause or release the process."""
        numbers = {"kill": signal.SIGKILL, "pause": signal.SIGSTOP, "release": signal.SIGTERM}
        self._process.send_signal(numbers[kind])
        self.struck = Struck(kind, time.monotonic())

    def wake(self) -> None:
        """End a pause."""
        if self.struck and self.struck.kind == "pause":
            self._process.send_signal(signal.SIGCONT)
            self.struck = None

    def has_ended(self) -> bool:
        """Return whether it is gone; fail where it went by itself or other than it was told."""
        code = self._process.poll()
        if code is None:
            return False
        assert self._process.stdin is not None
        self._process.stdin.close()
        kind = self.struck.kind if self.struck else None
        # One that is still importing has no handler for SIGTERM yet.
        fitting = {"kill": (-signal.SIGKILL,), "release": (0, -signal.SIGTERM)}.get(str(kind), ())
        assert code in fitting, f"{self.owner}, after {kind}, ended with {code}: {self.said()}"
        return True

    def said(self) -> str:
        """Return what it has reported so far."""
        return self._log_file.read_text()

    def bury(self) -> None:
        """End it now, whatever state it is in. Idempotent."""
        assert self._process.stdin is not None
        self._process.kill()  # also ends a process that is stopped
        self._process.wait()
        self._process.stdin.close()


async def opened(url: str, settings: Settings) -> EventLog:
    """Return the open log. A pause meanwhile outlasts the time-outs, and opening is not repeated."""
    for _ in range(OPEN_TRIES - 1):
        with suppress(LogUnavailable):
            return await EventLog.open(url, settings=settings)
    return await EventLog.open(url, settings=settings)


async def main(url: str, owner: str, settings: str) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)

    def on_end_of_input() -> None:
        loop.remove_reader(sys.stdin)
        stop.set()

    loop.add_reader(sys.stdin, on_end_of_input)
    log = await opened(url, msgspec.json.decode(settings, type=Settings))
    try:
        await Projector(log, owner=owner).run(stop)
    finally:
        await log.close()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(relativeCreated)d %(name)s %(message)s")
    asyncio.run(main(*sys.argv[1:]))
