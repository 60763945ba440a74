"""Files of a backup: for their owner's eyes alone, and durable before they count."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import BinaryIO, NamedTuple

READ_BYTES = 1024 * 1024


class FileFacts(NamedTuple):
    """What is checked of a file."""

    size_bytes: int
    sha256: str


def open_private(path: Path) -> BinaryIO:
    """Return a new file to write to, that nobody else may read."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")


def write_private(path: Path, content: bytes) -> None:
    """Write a small file, durably."""
    with open_private(path) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def copy_hashed(source: Path, target: Path) -> FileFacts:
    """Return size and checksum of a copy, which is durable. Raises OSError."""
    digest, size = hashlib.sha256(), 0
    with source.open("rb") as reading, open_private(target) as writing:
        while piece := reading.read(READ_BYTES):
            digest.update(piece)
            size += writing.write(piece)
        writing.flush()
        os.fsync(writing.fileno())
    return FileFacts(size, digest.hexdigest())


def file_facts(path: Path) -> FileFacts:
    """Return size and checksum of a file."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(READ_BYTES):
            digest.update(piece)
            size += len(piece)
    return FileFacts(size, digest.hexdigest())


def sync(path: Path) -> None:
    """Make a file durable, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
