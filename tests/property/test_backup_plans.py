"""The pure parts of backup and restore, against plain words of what they promise."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.backup.counting import bucket_of
from analytics.backup.manifest import (
    FileRecord,
    Manifest,
    PartitionRecord,
    SegmentRecord,
    decode_manifest,
    encode_manifest,
)
from analytics.backup.partition_count import possible_counts
from analytics.backup.planning import Known, check_successor, place_of, unneeded
from analytics.backup.standing import Standing, judge
from analytics.segment import Segment
from eventlog.errors import BackupDamaged, ConfigurationError, RestoreRefused
from eventlog.ids import START, EntryId
from eventlog.partition import partition_of
from eventlog.restoring import Marker

DAY_MS = 86_400_000


def file_at(path: str) -> FileRecord:
    return FileRecord(path, 7, "0" * 64)


@st.composite
def partition_records(draw: st.DrawFn, number: int) -> PartitionRecord:
    """Partitions of some segments and perhaps a tail, without a gap."""
    lengths = draw(st.lists(st.integers(1, 50), max_size=4))
    end, pieces = START, []
    for length in lengths:
        ms = end.ms + draw(st.integers(1, DAY_MS))
        segment = Segment(number, end.n + 1, end.n + length, ms)
        stamp = draw(st.sampled_from(["a-1", "b-2"]))
        pieces.append(SegmentRecord(segment.name, stamp, file_at(place_of(segment, stamp))))
        end = segment.end
    has_tail = bool(pieces) and draw(st.booleans())
    return PartitionRecord(
        head=end,
        first_n=draw(st.integers(1, end.n + 1)),
        segments=pieces[:-1] if has_tail else pieces,
        state=file_at(f"states/x/p{number}.state"),
        ids=file_at(f"states/x/p{number}.ids"),
        tail=pieces[-1] if has_tail else None,
    )


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    count = draw(st.integers(1, 3))
    return Manifest(
        id="x",
        log="eventlog",
        epoch=draw(st.sampled_from(["one", "two"])),
        created_ms=1,
        begun_at=2,
        completed_at=3,
        server="valkey 9",
        settings={"url": None},
        registries=file_at("states/x/registries.json"),
        partitions=[draw(partition_records(number)) for number in range(count)],
    )


class TestManifest:
    @given(manifests())
    def test_it_reads_back(self, manifest: Manifest) -> None:
        assert decode_manifest(encode_manifest(manifest)) == manifest

    @given(manifests(), st.data())
    def test_no_damage_goes_unnoticed(self, manifest: Manifest, data: st.DataObject) -> None:
        content = encode_manifest(manifest)
        place = data.draw(st.integers(0, len(content) - 2))
        if data.draw(st.booleans()):
            damaged = content[:place]
        else:
            other = data.draw(st.integers(0, 255).filter(lambda byte: byte != content[place]))
            damaged = content[:place] + bytes([other]) + content[place + 1 :]
        with pytest.raises(BackupDamaged, match="the manifest is damaged"):
            decode_manifest(damaged)

    @given(manifests(), st.sampled_from(["gap", "head", "path", "segment", "format"]))
    def test_a_sealed_one_that_makes_no_sense_is_refused(
        self, manifest: Manifest, how: str
    ) -> None:
        [first, *rest] = manifest.partitions
        replace = msgspec.structs.replace
        match how:
            case "gap":
                hole = Segment(0, first.head.n + 2, first.head.n + 3, first.head.ms + 1)
                tail = SegmentRecord(hole.name, "", file_at("states/x/tail"))
                first = replace(first, segments=first.pieces, tail=tail, head=hole.end)
            case "head":
                first = replace(first, head=EntryId(first.head.ms, first.head.n + 1))
            case "path":
                first = replace(first, state=file_at("states/../../passwd"))
            case "segment":
                odd = SegmentRecord("thesis.txt", "", file_at("segments/day/x"))
                first = replace(first, segments=[*first.segments, odd])
            case "format":
                manifest = replace(manifest, format=2)
        with pytest.raises((BackupDamaged, ConfigurationError)):
            decode_manifest(encode_manifest(replace(manifest, partitions=[first, *rest])))


class TestPlans:
    @given(manifests())
    def test_what_is_named_is_kept_and_nothing_else(self, manifest: Manifest) -> None:
        named = {file.path for file in manifest.files}
        assert unneeded({*named, "segments/day/old"}, manifest.files) == ["segments/day/old"]
        known = Known.of(manifest)
        for record in (each for p in manifest.partitions for each in p.segments):
            assert known.find(record.segment, record.stamp) == record
            assert known.find(record.segment, "c-3") is None

    @given(manifests(), st.integers(0, 2), st.integers(-2, 2), st.integers(-2, 2))
    def test_a_backup_is_followed_by_one_of_no_less(
        self, manifest: Manifest, place: int, ms: int, n: int
    ) -> None:
        heads = {p: each.head for p, each in enumerate(manifest.partitions)}
        moved = place % len(heads)
        heads[moved] = EntryId(heads[moved].ms + ms, heads[moved].n + n)
        if min(ms, n) < 0:
            with pytest.raises(RestoreRefused):
                check_successor(manifest, "eventlog", manifest.epoch, heads)
        else:
            check_successor(manifest, "eventlog", manifest.epoch, heads)
        with pytest.raises(ConfigurationError):
            check_successor(manifest, "eventlog", "another", heads)


ids = st.builds(EntryId, st.integers(0, 9), st.integers(0, 9))


class TestJudgement:
    @given(
        st.lists(st.none() | ids, min_size=2, max_size=2),
        st.lists(ids, min_size=2, max_size=2),
        st.sampled_from([None, "one", "two"]),
        st.none() | st.builds(Marker, st.sampled_from(["x", "y"]), st.just("t"), st.booleans()),
        st.dictionaries(st.just((0, "g")), ids),
        st.dictionaries(st.just((0, "g")), ids),
        st.booleans(),
    )
    def test_nothing_that_is_not_restored_is_destroyed_unasked(
        self, there, restored, epoch, marker, positions, known, overwrite
    ) -> None:
        standing = Standing(epoch, 2 if epoch else None, marker, there, positions)
        try:
            kind = judge(
                standing,
                source="x",
                epoch="one",
                heads=restored,
                positions=known,
                overwrite=overwrite,
            )
        except RestoreRefused:
            assert not overwrite
            assert not standing.is_empty
            return
        if kind == "unfinished":
            assert marker == Marker("x", "t", True)
        elif kind == "empty":
            assert epoch is None
            assert all(head == START for head in there)
        elif kind == "older":
            assert epoch == "one"
            for mine, theirs in zip(there, restored, strict=True):
                assert mine is None or (mine.n <= theirs.n and mine.ms <= theirs.ms)
            assert all(place in known and at.n <= known[place].n for place, at in positions.items())
        else:
            assert overwrite


class TestCounting:
    @given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 100), st.integers(1, 9))
    def test_an_id_is_as_old_as_when_the_log_ended(
        self, age: int, end: int, away: int, window: int
    ) -> None:
        entry, head = EntryId(max(0, end - age), 1), EntryId(end, 2)
        now = end + away
        bucket = bucket_of(entry, head, now, window)
        is_remembered_then = entry.ms // window >= end // window - 1
        assert (bucket is not None) == is_remembered_then
        if bucket is not None:
            assert bucket in (now // window, now // window - 1)
            assert (bucket == now // window) == (entry.ms // window == end // window)

    @given(st.integers(1, 64), st.sets(st.text(max_size=8), min_size=1))
    def test_the_true_partition_count_is_possible(self, true_count: int, names: set[str]) -> None:
        seen: dict[int, list[str]] = {}
        for name in names:
            seen.setdefault(partition_of(name, true_count), []).append(name)
        assert true_count in possible_counts(seen)
