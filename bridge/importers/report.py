"""What came of an import: counts by file and kind, and the lines that were refused."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import msgspec

MAX_REJECTED_SHOWN = 1000
"""Refused lines kept with their reasons; the count goes on beyond."""


class RejectedLine(NamedTuple):
    """A line that was not imported; `str()` is `file:line: reason`."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}"


class FileReport(msgspec.Struct):
    """One file, or one session of a file that holds several.

    `counts` tells what the file contains by kind, whether new or not: `message`, `records.user`,
    `by.action:run`. `events_added` are those new to the log, `duplicates_skipped` the events it had
    already. `duplicates` among the counts are lines that the file itself repeats.
    """

    format_name: str
    counts: dict[str, int] = msgspec.field(default_factory=dict)
    events_added: int = 0
    duplicates_skipped: int = 0
    rejected_count: int = 0

    def count(self, kinds: tuple[str, ...]) -> None:
        """Count a record as each of the kinds."""
        counts = self.counts
        for kind in kinds:
            counts[kind] = counts.get(kind, 0) + 1

    def merge(self, other: FileReport) -> None:
        """Add the other's numbers."""
        for kind, number in other.counts.items():
            self.counts[kind] = self.counts.get(kind, 0) + number
        self.events_added += other.events_added
        self.duplicates_skipped += other.duplicates_skipped
        self.rejected_count += other.rejected_count


class ImportReport(msgspec.Struct):
    """All files of an import by label; encodes to JSON as it is."""

    files: dict[str, FileReport] = msgspec.field(default_factory=dict)
    rejected: list[RejectedLine] = msgspec.field(default_factory=list)
    skipped: list[tuple[str, str]] = msgspec.field(default_factory=list)
    """Files that were not imported, with the reason."""

    def file(self, label: str, format_name: str) -> FileReport:
        """Return the report of a file, begun if need be."""
        return self.files.setdefault(label, FileReport(format_name))

    def reject(self, line: RejectedLine) -> None:
        """Keep a refused line, up to the limit."""
        if len(self.rejected) < MAX_REJECTED_SHOWN:
            self.rejected.append(line)

    def merge(self, other: ImportReport) -> None:
        """Add what the other has."""
        for label, report in other.files.items():
            self.file(label, report.format_name).merge(report)
        for line in other.rejected:
            self.reject(line)
        self.skipped.extend(other.skipped)

    def counts(self, prefix: str = "") -> Counter[str]:
        """Return the sum by kind over the files whose label starts with `prefix`.

        `senders` adds up per file: who speaks in two files counts twice.
        """
        total: Counter[str] = Counter()
        for label, report in self.files.items():
            if label.startswith(prefix):
                total.update(report.counts)
        return total

    @property
    def events_added(self) -> int:
        """Events new to the log."""
        return sum(report.events_added for report in self.files.values())

    @property
    def duplicates_skipped(self) -> int:
        """Events the log had already from an earlier import."""
        return sum(report.duplicates_skipped for report in self.files.values())

    @property
    def rejected_count(self) -> int:
        """Lines refused, also beyond those kept."""
        return sum(report.rejected_count for report in self.files.values())
