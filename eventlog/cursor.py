"""A place in the whole log: one position per partition."""

from __future__ import annotations

from typing import Self

from eventlog.ids import START, EntryId


class Cursor(dict[int, EntryId]):
    """Partition → the last entry seen there. `str` and `parse` carry it across restarts."""

    @classmethod
    def start(cls, partition_count: int) -> Self:
        """Return the place before every entry."""
        return cls((partition, START) for partition in range(partition_count))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the cursor that was written by `str`; ValueError on anything else."""
        return cls(enumerate(EntryId.parse(part) for part in text.split(",")))

    def __str__(self) -> str:
        return ",".join(str(self[partition]) for partition in sorted(self))
