"""What an erasure finds on its way, and what it reports in the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from analytics.segment import Segment
from eventlog.entry import RawEntry
from eventlog.erasure_ledger import Recorded
from eventlog.erasure_scope import Scope, Selection
from eventlog.ids import EntryId
from eventlog.log import EventLog
from eventlog.redactor import Redactor
from eventlog.server_files import ServerFiles


class Progress(NamedTuple):
    """What is being done, and how far it is."""

    step: str
    """`sessions`, `log`, `archive`, `read models` or `server files`."""
    done_count: int
    total_count: int


class Report(NamedTuple):
    """What was erased, or would be."""

    erasures: tuple[str, ...]
    """Names in the ledger; none of a dry run."""
    event_count: int
    """Events that had content, wherever it was found."""
    entry_count: int
    """Of them in the log, each time it was rewritten."""
    row_count: int
    """Of them in the archive."""
    segment_count: int
    partition_count: int
    session_count: int
    """Sessions that are the person's."""
    record_count: int
    """Records of failed attempts that quoted them."""
    model_count: int
    """Read models made anew."""
    in_hand_count: int
    """Entries that groups have pending: a handler may write of one as it was. Erase again later."""
    unreadable_count: int
    """Entries that are no events, of which nobody can tell whose they are. They are left."""
    temporary_count: int
    """Unfinished files in the archive's folders; old ones are deleted."""
    files: ServerFiles
    is_complete: bool
    """Whether the last round found nothing any more."""


class Run:
    """One call's findings."""

    def __init__(self, log: EventLog, recorded: Sequence[Recorded]) -> None:
        self.recorded = recorded
        self.begun_at: list[int] = []
        """µs UTC, of each erasure; empty for as long as nothing is changed."""
        self.noted: list[Scope] = []
        """The scopes as the ledger has them of this run."""
        self.selection = Selection(each.scope for each in recorded)
        self.redactor = Redactor(log.codec, self.selection)
        self.clean: dict[Segment, tuple[int, int]] = {}
        """Segments in which nothing was found, as they were then."""
        self.needs_round = False
        """Whether what was found late may concern what was seen before it."""
        self.entry_count = self.row_count = self.segment_count = self.record_count = 0
        self.model_count = self.in_hand_count = self.temporary_count = 0

    def change(self, partition: int) -> Callable[[RawEntry], bytes | None]:
        """Return what gives the JSON that is to stand in place of an entry's."""

        def changed(entry: RawEntry) -> bytes | None:
            if self.selection.seeks_people and self.redactor.learn(partition, entry):
                self.needs_round = True
                self.clean.clear()
            return self.redactor.redaction(partition, entry)

        return changed

    def is_erased(self, partition: int) -> Callable[[EntryId], bool]:
        """Return what says whether an entry is erased."""
        return lambda entry_id: (partition, entry_id.n) in self.redactor.erased

    def count_segment(self, row_count: int) -> None:
        """Take a segment that was rewritten, or would be."""
        self.row_count += row_count
        self.segment_count += row_count > 0

    def report(self, *, files: ServerFiles, is_complete: bool) -> Report:
        """Return the findings."""
        return Report(
            erasures=tuple(each.scope.erasure for each in self.recorded),
            event_count=len(self.redactor.changed),
            entry_count=self.entry_count,
            row_count=self.row_count,
            segment_count=self.segment_count,
            partition_count=len({partition for partition, _ in self.redactor.changed}),
            session_count=sum(len(scope.sessions) for scope in self.selection.scopes),
            record_count=self.record_count,
            model_count=self.model_count,
            in_hand_count=self.in_hand_count,
            unreadable_count=len(self.redactor.unreadable),
            temporary_count=self.temporary_count,
            files=files,
            is_complete=is_complete,
        )
