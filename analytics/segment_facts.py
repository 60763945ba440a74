"""What a segment says of itself beside its rows, in the file's metadata.

    eventlog.format           of the file's layout
    eventlog.compacted_at_ms  when a compacted file was written
    eventlog.removed          rows that rules took out, by type, as JSON
    eventlog.sequences        digest of the sequences that are left

A file holds every sequence of its name, but for as many as `eventlog.removed` says; that those which
are left are the right ones is shown by their digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import NamedTuple, Self

import msgspec
import pyarrow as pa

FORMAT = "1"
"""Of the file's layout. Columns may be added to it; what reads it today would still read it then."""

_FORMAT, _COMPACTED_AT = b"eventlog.format", b"eventlog.compacted_at_ms"
_REMOVED, _SEQUENCES = b"eventlog.removed", b"eventlog.sequences"


class Facts(NamedTuple):
    """The metadata of one file."""

    format: str = FORMAT
    compacted_at_ms: int = 0
    """0 of a file that was not compacted."""
    removed: Mapping[str, int] = {}
    """Rows that rules took out, by type."""
    digest: str = ""
    """Of the sequences that are left; empty where none is missing."""

    @property
    def removed_count(self) -> int:
        """How many sequences of the name are not in the file, by rule."""
        return sum(self.removed.values())

    @classmethod
    def read(cls, metadata: Mapping[bytes, bytes] | None) -> Self:
        """Return the facts in a file's metadata. Raises ValueError where they cannot be read."""
        metadata = metadata or {}
        removed = msgspec.json.decode(metadata.get(_REMOVED, b"{}"), type=dict[str, int])
        return cls(
            metadata.get(_FORMAT, FORMAT.encode()).decode(),
            int(metadata.get(_COMPACTED_AT, 0)),
            removed,
            metadata.get(_SEQUENCES, b"").decode(),
        )

    def metadata(self) -> dict[str, str]:
        """Return the facts as a file's metadata."""
        written = {_FORMAT: self.format}
        if self.compacted_at_ms:
            written[_COMPACTED_AT] = str(self.compacted_at_ms)
        if self.removed:
            written[_REMOVED] = msgspec.json.encode(self.removed, order="sorted").decode()
            written[_SEQUENCES] = self.digest
        return {key.decode(): value for key, value in written.items()}


def digest_of(sequences: pa.Array) -> str:
    """Return the digest of sequences, which are in order and without nulls."""
    whole = pa.concat_arrays([sequences.cast(pa.int64())])
    data = memoryview(whole.buffers()[1])[whole.offset * 8 : (whole.offset + len(whole)) * 8]
    return hashlib.blake2b(data, digest_size=16).hexdigest()
