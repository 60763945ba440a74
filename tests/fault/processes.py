"""Processes that a run starts, strikes and buries; and what each of them needs inside."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from eventlog import Event, EventLog, Settings
from eventlog.clock import SYSTEM_CLOCK, Clock
from eventlog.errors import LogUnavailable

AWAY_S = 0.05

StrikeKind = Literal["kill", "pause", "release"]
"""`kill -9`; SIGSTOP for longer than a lease, then SIGCONT; SIGTERM."""


class Struck(NamedTuple):
    """What happened to a process, at a time of this one's monotonic clock."""

    kind: StrikeKind
    at_s: float


class StruckProcess:
    """A process of any module that takes arguments and a name, seen by the one who started it."""

    def __init__(self, module: str, owner: str, folder: Path, *arguments: str | bytes) -> None:
        self.owner = owner
        self.struck: Struck | None = None
        """None while nothing keeps it from its work; a paused one that wakes is sound again."""
        self._log_file = folder / f"{owner}.log"
        with self._log_file.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.PIPE,  # never written to: it ends with this process
                stderr=errors,
                start_new_session=True,  # the terminal's Ctrl-C is for this process alone
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

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


# --- in the process -------------------------------------------------------------------------------


async def opened(
    url: str,
    settings: Settings,
    types: Sequence[type[Event]] = (),
    *,
    clock: Clock = SYSTEM_CLOCK,
) -> EventLog:
    """Return the open log, as soon as its server answers."""
    while True:
        try:
            return await EventLog.open(url, settings=settings, types=types, clock=clock)
        except LogUnavailable as error:
            logging.info("not yet open: %s", error)
            await asyncio.sleep(AWAY_S)


def told_to_stop() -> asyncio.Event:
    """Return what SIGTERM sets. The process ends by itself when nobody is left who could send one."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_reader(sys.stdin, os._exit, 1)
    return stop


def report_on_standard_error() -> None:
    """Have the product's own reports written to standard error, with ms since the start."""
    logging.basicConfig(level=logging.INFO, format="%(relativeCreated)d %(name)s %(message)s")
