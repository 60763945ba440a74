"""What is wrong with an archive, and what is to be done about each. Synchronous."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from analytics.catalogue import Catalogue
from analytics.inspecting import Damage, inspect
from analytics.segment import Coverage, Range, Segment, cover
from analytics.segment_reader import SegmentReader
from analytics.storage import Storage
from eventlog.errors import HistoryGap

Kind = Literal["damaged", "gap", "overlap", "stranded", "spare", "temporary"]

_RESTORE = "`eventlog archive restore`, with `--from DIR` where there is a backup"


class Finding(NamedTuple):
    """One thing that was found."""

    kind: Kind
    needs_attention: bool
    partition: int | None
    first: int | None
    last: int | None
    file: str | None
    seen: str
    remedy: str


class FileFacts(NamedTuple):
    """One file, as a list shows it."""

    segment: Segment
    byte_count: int
    is_read: bool
    """Whether readers read it; others hold the same or come after a gap."""
    removed: dict[str, int]
    """Rows that rules took out, by type."""
    is_damaged: bool
    """As far as its footer tells."""


def listing(storage: Storage) -> list[FileFacts]:
    """Return every file there is, in order of partition and sequence; only footers are read."""
    found = []
    for coverage in Catalogue(storage).scan().values():
        chosen = set(coverage.chosen)
        for segment in sorted(coverage.segments):
            removed, is_damaged, byte_count = dict[str, int](), False, 0
            try:
                byte_count = storage.path(segment).stat().st_size
                with SegmentReader(storage.path(segment), segment) as reader:
                    removed = dict(reader.facts.removed)
            except (HistoryGap, OSError):
                is_damaged = True
            found.append(FileFacts(segment, byte_count, segment in chosen, removed, is_damaged))
    return found


def audit(
    storage: Storage, tell: Callable[[int, int], None] = lambda _done, _total: None
) -> list[Finding]:
    """Return what was found, having read every file through. `tell` gets files done and in all."""
    coverages = Catalogue(storage).scan()
    total = sum(len(coverage.segments) for coverage in coverages.values())
    damages: list[Damage] = []
    done = 0
    for coverage in coverages.values():
        for segment in sorted(coverage.segments):
            tell(done, total)
            damage = inspect(storage, segment)
            # One that is gone since it was listed has been compacted.
            if damage is not None and damage.why != "is gone":
                damages.append(damage)
            done += 1
    tell(done, total)
    findings = [
        _damaged(damage, coverages[damage.segment.partition], damages) for damage in damages
    ]
    bad = {damage.segment for damage in damages}
    for partition, coverage in coverages.items():
        findings += _by_name(partition, coverage, bad)
    temporary = storage.temporary_count()
    if temporary:
        findings.append(
            Finding(
                "temporary", False, None, None, None, None,
                f"{temporary} unfinished files, of a writer at work or of one that crashed",
                "none: what is older than a day is deleted when an archiver starts",
            )
        )  # fmt: skip
    return findings


def lost_ranges(coverage: Coverage, damaged: set[Segment]) -> list[Range]:
    """Return the sequences that no sound file of a partition has although a file should."""
    sound = cover(set(coverage.segments) - damaged)
    lost = list(sound.gaps)
    reaches = max([sound.position.n, *(s.last for s in sound.stranded)])
    ends = [segment.last for segment in coverage.segments if segment in damaged]
    if ends and max(ends) > reaches:
        lost.append(Range(reaches + 1, max(ends)))
    return lost


def _damaged(damage: Damage, coverage: Coverage, damages: list[Damage]) -> Finding:
    segment = damage.segment
    lost = lost_ranges(coverage, {each.segment for each in damages})
    is_lost = any(r.first <= segment.last and r.last >= segment.first for r in lost)
    seen = damage.why if is_lost else f"{damage.why}; other files have its rows"
    place = segment.partition, segment.first, segment.last, segment.name
    return Finding("damaged", True, *place, seen, _RESTORE)


def _by_name(partition: int, coverage: Coverage, bad: set[Segment]) -> list[Finding]:
    findings = []
    for gap in coverage.gaps:
        seen = "no file has these sequences"
        findings.append(Finding("gap", True, partition, *gap, None, seen, _RESTORE))
    superseded, overlaps = set(coverage.superseded), set(coverage.overlaps)
    for segment in (*coverage.spare, *coverage.stranded):
        if segment in bad:
            continue
        if segment in coverage.stranded:
            kind: Kind = "stranded"
            seen, remedy = "cannot be reached before the gap is closed", _RESTORE
        elif segment in superseded:
            kind, seen = "spare", "a compacted file has taken its place"
            remedy = "`eventlog archive compact` deletes it ten minutes after that"
        elif segment in overlaps:
            kind, seen = "overlap", "two writers cut differently; it is not read"
            remedy = "delete it, or let it be: compaction removes it with its day"
        else:
            kind, seen = "spare", "others hold the same; it is not read"
            remedy = "none: compaction removes it with its day"
        place = partition, segment.first, segment.last, segment.name
        findings.append(Finding(kind, kind == "stranded", *place, seen, remedy))
    return findings
