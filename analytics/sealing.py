"""A checksum over every byte of a segment: Parquet's own cover the pages, but not what leads to them.

    … row groups … │ mark │ digest of what is before │ digest of what is after │ footer  length  PAR1

Parquet finds its footer from the end and everything else from the start, so what stands between the
last row group and the footer is nobody's; any reader passes over it. A damaged footer has to be seen
before it is parsed: some make pyarrow end the process. Files from before this have no seal.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import BinaryIO, NamedTuple

_MARK = b"\x93evseal\n"
_DIGEST_BYTES = 16
_SEAL_BYTES = len(_MARK) + 2 * _DIGEST_BYTES
_TAIL_BYTES = 8
"""The footer's length, and PAR1."""

_CHUNK_BYTES = 1024 * 1024

_LONGEST_FOOTER_BYTES = 16 * 1024 * 1024


class _Ends(NamedTuple):
    """Where a file's parts end, and its seal, empty where it has none."""

    body_end: int
    seal: bytes
    footer: bytes
    """With its length and PAR1."""


def seal(path: Path) -> None:
    """Seal a Parquet file that has no seal, and sync it."""
    with path.open("r+b") as file:
        ends = _ends(file)
        assert not ends.seal
        file.seek(ends.body_end)
        file.write(_MARK + _digest_of_body(file, ends) + _digest(ends.footer) + ends.footer)
        file.flush()
        os.fsync(file.fileno())


def broken_seal(path: Path, *, is_whole: bool) -> str | None:
    """Return how a file is not as it was sealed, None where it is, or has no seal.

    Without `is_whole` only the footer is looked at, which is quick. Raises OSError.
    """
    with path.open("rb") as file:
        try:
            ends = _ends(file)
        except ValueError as error:
            return str(error)
        if not ends.seal:
            return None
        of_body, of_footer = ends.seal[:_DIGEST_BYTES], ends.seal[_DIGEST_BYTES:]
        is_broken = _digest(ends.footer) != of_footer or (
            is_whole and _digest_of_body(file, ends) != of_body
        )
        return "has a bad checksum" if is_broken else None


def _ends(file: BinaryIO) -> _Ends:
    """Return a file's ends.

    Raises ValueError where it does not end as Parquet does, or its seal stands elsewhere than the
    footer's length says.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _TAIL_BYTES))
    tail = file.read()
    start = size - _TAIL_BYTES - int.from_bytes(tail[:4], "little")
    if not tail.endswith(b"PAR1") or start < 4:
        raise ValueError("is cut short, or no Parquet file")
    file.seek(max(0, start - _SEAL_BYTES))
    before = file.read(start - file.tell())
    footer = file.read()
    if not before.startswith(_MARK):
        file.seek(max(0, size - _LONGEST_FOOTER_BYTES))
        if _MARK in file.read():
            raise ValueError("has a bad checksum")
        return _Ends(start, b"", footer)
    return _Ends(start - _SEAL_BYTES, before[len(_MARK) :], footer)


def _digest_of_body(file: BinaryIO, ends: _Ends) -> bytes:
    hashed = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    position = file.tell()
    file.seek(0)
    while left := ends.body_end - file.tell():
        hashed.update(file.read(min(left, _CHUNK_BYTES)))
    file.seek(position)
    return hashed.digest()


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()
