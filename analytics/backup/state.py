"""A partition's state beside its entries, in plain words: a file of JSON lines, compressed.

Plain, not the server's own DUMP, which another version of Redis or Valkey need not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec
import pyarrow as pa

from analytics.backup.files import open_private, sync
from eventlog.errors import BackupDamaged

LINE_ITEMS = 1000
"""Names in a line: a reader holds one line."""

T = TypeVar("T")


class Versions(msgspec.Struct, frozen=True, tag="versions"):
    """Entity → its state, as the append script writes it."""

    of: dict[str, str]


class Producers(msgspec.Struct, frozen=True, tag="producers"):
    """Producer → its last batch, as the append script writes it."""

    of: dict[str, str]


class Ids(msgspec.Struct, frozen=True, tag="ids"):
    """Event id → id of the entry that it came in with."""

    of: dict[str, str]


class Group(msgspec.Struct, frozen=True, tag="group"):
    """A consumer group in the partition."""

    name: str
    position: str | None
    """Entry id last delivered, by the stream; None where the stream had no such group."""
    consumers: list[str]
    pending: list[tuple[str, str, int]]
    """Entry id, consumer, deliveries."""
    work: dict[str, str]
    attempts: dict[str, str]
    blocked: list[tuple[str, str]]
    """Conversation, ms at which it is due."""
    lines: list[list[str]]
    """Entry ids of each, as `blocked` has them."""


Line = Versions | Producers | Ids | Group
_decoder = msgspec.json.Decoder(Line)


def in_chunks(items: dict[str, T], count: int = LINE_ITEMS) -> Iterator[dict[str, T]]:
    """Yield the items, a few at a time."""
    names = list(items)
    for start in range(0, len(names), count):
        yield {name: items[name] for name in names[start : start + count]}


class LineFile:
    """A file of lines, durable when the block ends; there is none where it fails.

    For its owner's eyes alone. Raises OSError.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Self:
        self._file = open_private(self._path)
        self._out = pa.CompressedOutputStream(pa.PythonFile(self._file, "w"), "zstd")
        return self

    def add(self, line: Line) -> None:
        """Write a line."""
        self._out.write(msgspec.json.encode(line) + b"\n")

    def __exit__(self, error_type: object, error: object, traceback: object) -> None:
        try:
            self._out.close()
            self._file.close()
            if error is None:
                sync(self._path)
        except BaseException:
            self._path.unlink(missing_ok=True)
            raise
        finally:
            with suppress(OSError):  # what could not be written then cannot be now
                self._file.close()
            if error is not None:
                self._path.unlink(missing_ok=True)


def read_lines(path: Path) -> Iterator[Line]:
    """Yield the lines of a file. Raises BackupDamaged."""
    try:
        with pa.input_stream(path, compression="zstd") as file:
            for text in _lines(file):
                yield _decoder.decode(text)
    except (OSError, pa.ArrowException, msgspec.MsgspecError) as error:
        raise BackupDamaged(
            f"the backup's file {path.name} cannot be read ({error}).",
            remedy="Restore another backup.",
        ) from None


def _lines(file: Any) -> Iterator[bytes]:
    rest = b""
    while piece := file.read(1024 * 1024):
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
    if rest:
        raise msgspec.DecodeError("the last line is cut short")
