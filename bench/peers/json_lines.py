"""A file of JSON lines with a lock: what many bridges keep."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench.peers.peer import BATCH_MESSAGES, Kind, Peer, Place, Stopwatch, Way, Work
from eventlog import MessageReceived


def add(path: Path, lines: bytes, *, synced: bool) -> None:
    """Append the lines as a whole, alone among all processes."""
    with path.open("ab", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(lines)
        if synced:
            os.fsync(file.fileno())


def recording(size: int, *, synced: bool) -> Work:
    """Return the work of appending so many at a time."""

    async def work(place: Place, messages: Sequence[MessageReceived], watch: Stopwatch) -> None:
        path = place.folder / "messages.jsonl"
        with watch.running():
            for start in range(0, len(messages), size):
                part = messages[start : start + size]
                lines = b"".join(msgspec.json.encode(message) + b"\n" for message in part)
                add(path, lines, synced=synced)

    return work


PEER = Peer(
    "JSON lines, flock",
    (),
    "no server, so no second machine; repeats are recorded again; no expected version; a torn line "
    "after a crash; readers parse the whole file",
    {
        Kind.ONE: Way("open, flock, write", recording(1, synced=False)),
        Kind.ONE_SYNCED: Way("open, flock, write, fsync", recording(1, synced=True), 0.02),
        Kind.BATCH: Way("500 lines a write", recording(BATCH_MESSAGES, synced=False)),
        Kind.BATCH_SYNCED: Way("500 lines, fsync", recording(BATCH_MESSAGES, synced=True)),
    },
)
