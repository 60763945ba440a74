"""What one untrusted query may use."""

from __future__ import annotations

import msgspec

MIB = 1024 * 1024


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of one query; the kernel and the parent hold them, whatever DuckDB does."""

    timeout_s: float = 10.0
    """Wall-clock time from the question to the last byte of the answer."""
    memory_bytes: int = 512 * MIB
    """What the query's process may take beyond what an idle one has (about 100 MB resident)."""
    thread_count: int = 2
    row_count: int = 100_000
    """Rows of the result."""
    result_bytes: int = 32 * MIB
    """Of the result, as Arrow."""
    sql_bytes: int = 64 * 1024
    """Of the query's text and parameters, as UTF-8 and Arrow."""

    def __post_init__(self) -> None:
        """Refuse what no query could run within."""
        if self.memory_bytes < 64 * MIB:
            raise ValueError("memory_bytes: at least 64 MiB")
        if not 0 < self.timeout_s <= 24 * 3600:
            raise ValueError("timeout_s: above 0 and up to a day")
        if min(self.thread_count, self.row_count, self.result_bytes, self.sql_bytes) < 1:
            raise ValueError("thread_count, row_count, result_bytes, sql_bytes: at least 1")
