"""A file to import: its lines as bytes, numbered, and how far the reading has come."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from bridge.importers.fingerprint import fingerprint
from bridge.importers.migration.mapping import Mapping
from eventlog.errors import ImportFailed

MAX_LINE_BYTES = 64 * 1024 * 1024
"""Longer lines are cut short by the reader, so that memory stays bounded; no parser takes them."""

_HEAD_LINES = 50
"""Lines looked at to name a file or to find out its format."""

_HEAD_BYTES = 1024 * 1024

_BOM = b"\xef\xbb\xbf"


class Source:
    """One file of a known format; `label` is its path as the report names it."""

    def __init__(
        self,
        path: Path,
        label: str | None = None,
        format_name: str = "",
        mapping: Mapping | None = None,
    ) -> None:
        self.path = path
        self.label = label or path.name
        self.format_name = format_name
        self.size_bytes = path.stat().st_size
        self.text_bytes = 0
        """Bytes given out so far, after decompression."""
        self.mapping = mapping or Mapping()
        """How the tables or keys of an older bridge are to be read."""
        self.database_name: str | None = None
        """What a database is called in the log, once its parser has looked."""
        self.left_out: list[tuple[str, str]] = []
        """Parts of the file that its parser does not read, with the reason."""
        self.told_bytes: int | None = None
        """How far a parser says it has come, that reads the file in its own way."""
        self._file: BinaryIO | None = None
        self._is_read = False

    @property
    def bytes_done(self) -> int:
        """How many bytes of the file have been read, compressed bytes where it is compressed."""
        if self.told_bytes is not None:
            return self.told_bytes
        if self._file is not None:
            return self._file.tell()
        return self.size_bytes if self._is_read else 0

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield (line number from 1, line without its end); empty lines are counted, not yielded.

        Raises ImportFailed for a file that cannot be read to its end.
        """
        with self._opened() as file:
            for number, line in enumerate(_bounded_lines(file), 1):
                self.text_bytes += len(line)
                stripped = line.rstrip(b"\r\n")
                if number == 1:
                    stripped = stripped.removeprefix(_BOM)
                if stripped:
                    yield number, stripped

    def read(self) -> bytes:
        """Return the whole file; for formats that cannot be read line by line."""
        with self._opened() as file:
            content = file.read()
        self.text_bytes += len(content)
        return content

    @contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        try:
            with self.path.open("rb") as file, ExitStack() as inner:
                self._file = file
                if self.path.suffix == ".gz":
                    yield cast("BinaryIO", inner.enter_context(gzip.open(file)))
                else:
                    yield file
        except (OSError, EOFError, zlib.error) as error:
            raise ImportFailed(f"{self.path} cannot be read: {error}.") from None
        finally:
            self._file, self._is_read = None, True

    def head(self) -> list[bytes]:
        """Return the first lines of the file, read apart from `lines`; at least one if it has any."""
        head: list[bytes] = []
        apart = Source(self.path)
        for _, line in apart.lines():
            head.append(line)
            if len(head) == _HEAD_LINES or apart.text_bytes >= _HEAD_BYTES:
                break
        return head

    def names(self, prefix: str, is_valid: Callable[[bytes], object]) -> tuple[str, ...]:
        """Return names for the file after what its first valid lines say, not where it lies."""
        valid = [line for line in self.head() if is_valid(line)][:3]
        return tuple(f"{prefix}:{fingerprint(line)}" for line in valid) or (f"{prefix}:empty",)


def _bounded_lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield lines; of one over the limit the first part, its rest is passed over."""
    while line := file.readline(MAX_LINE_BYTES):
        rest = line
        while len(rest) == MAX_LINE_BYTES and not rest.endswith(b"\n"):
            rest = file.readline(MAX_LINE_BYTES)
        yield line
