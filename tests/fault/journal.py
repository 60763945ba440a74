"""What a process records as it goes: lines of JSON, each in the file when the call returns.

A record says `what` and `at_ns`, ns of the machine's one wall clock, whatever clock the process was
given. The last line of a killed process may be cut short, and the next one of its name writes on.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


class JournalFile:
    """A journal being written."""

    def __init__(self, path: str | Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        end = os.lseek(self._file, 0, os.SEEK_END)
        if end and os.pread(self._file, 1, end - 1) != b"\n":
            os.write(self._file, b"\n")  # the one before was killed in the middle of a line

    def write(self, what: str, **fields: Any) -> None:
        record = {"what": what, "at_ns": time.time_ns(), **fields}
        os.write(self._file, json.dumps(record).encode() + b"\n")


def records(lines: Iterable[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number of each whole line, from 1, and what it records."""
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except ValueError:
            continue  # cut short by a kill
        if line.endswith("\n"):
            yield number, record
