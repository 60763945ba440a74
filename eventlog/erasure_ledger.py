"""The ledger of erasures: a file that outlives what is restored from a backup.

One JSON line per state of an erasure, appended and synced. It names nobody: see `erasure_scope`. Keep
it apart from the backups it is to be applied to. Synchronous.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from eventlog.erasure_scope import Scope, Whose
from eventlog.logs import get_logger

State = Literal["begun", "completed"]

LEDGER_NAME = "erasures.jsonl"

_log = get_logger("erasures")


class Line(Scope, frozen=True, kw_only=True):
    """An erasure as of one moment."""

    log: str
    """The key prefix of the log it is of."""
    state: State
    at: int
    """µs UTC."""


class Recorded(NamedTuple):
    """An erasure that the ledger has."""

    scope: Scope
    is_completed: bool
    begun_at: int
    """µs UTC, when it was last begun: one that is completed is begun again where more is found."""


class Ledger:
    """The erasures of one log in a ledger that several logs may share."""

    def __init__(self, path: Path, log: str) -> None:
        self.path = path
        self._log = log

    def read(self) -> list[Recorded]:
        """Return the erasures, in the order in which they were begun.

        A line that is not whole was being written when its process died: nothing was erased by then.
        """
        found: dict[str, Recorded] = {}
        try:
            lines = self.path.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        for number, text in enumerate(lines, 1):
            try:
                line = msgspec.json.decode(text, type=Line)
            except msgspec.MsgspecError as error:
                _log.warning("ledger_line_unreadable", line=number, error=str(error))
                continue
            if line.log == self._log:
                found[line.erasure] = _after(found.get(line.erasure), line)
        return list(found.values())

    def find(self, whose: Whose) -> Recorded | None:
        """Return the latest erasure that was asked for just that."""
        return next((each for each in reversed(self.read()) if each.scope.is_of(whose)), None)

    def salt(self) -> str | None:
        """Return the salt of the erasures so far, None where there is none."""
        return next((each.scope.salt for each in self.read()), None)

    def write(self, state: State, moments: Iterable[tuple[Scope, int]]) -> None:
        """Append a line for each scope as of a moment in µs UTC, durably."""
        lines = [
            msgspec.json.encode(
                Line(**msgspec.structs.asdict(scope), log=self._log, state=state, at=at)
            )
            for scope, at in moments
        ]
        if not lines:
            return
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            is_torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            left = b"\n" * is_torn + b"\n".join(lines) + b"\n"
            while left:  # a disk that fills up takes a part, and says so the next time
                left = left[os.write(descriptor, left) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _after(before: Recorded | None, line: Line) -> Recorded:
    """Return an erasure after a line: with every session, and until the latest time, of any line."""
    values = {name: getattr(line, name) for name in Scope.__struct_fields__}
    scope = Scope(**values)
    begun_at = line.at
    if before is not None:
        sessions = sorted({*line.sessions, *before.scope.sessions})
        until_ms = max(line.until_ms, before.scope.until_ms)
        scope = msgspec.structs.replace(scope, sessions=sessions, until_ms=until_ms)
        if line.state == "completed" or not before.is_completed:
            begun_at = before.begun_at
    return Recorded(scope, line.state == "completed", begun_at)
