"""Archives, read back."""

from __future__ import annotations

from analytics.catalogue import Catalogue
from analytics.storage import Storage
from eventlog.entry import RawEntry
from eventlog.ids import EntryId


def archived(
    storage: Storage, partition: int, after_n: int = 0, until_n: int | None = None
) -> list[RawEntry]:
    """Return the entries of a partition after one sequence and up to another, or all there are."""
    until = None if until_n is None else EntryId(0, until_n)
    stretches = Catalogue(storage).stretches(partition, EntryId(0, after_n), until)
    return [entry for stretch in stretches for entry in stretch.entries]
