"""A spool's file: who may take it, and what is read from it after a crash."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from eventlog.spool_file import SpoolFile, SpoolHeader, SpoolLine, waiting_counts

HEADER = SpoolHeader("eventlog", "redis://db:6379/0", "e1")


def line(n: int, text: str = "x") -> SpoolLine:
    event = {"id": str(n), "conversation": "c", "text": text}
    return SpoolLine(n, msgspec.Raw(msgspec.json.encode(event)))


def left(folder: Path, count: int) -> Path:
    file = SpoolFile.create(folder, HEADER)
    file.append([line(n) for n in range(1, count + 1)])
    file.close()
    return file.path


def test_a_living_owner_s_cannot_be_taken(tmp_path: Path):
    file = SpoolFile.create(tmp_path, HEADER)
    file.append([line(1)])
    assert SpoolFile.adopt(file.path, HEADER) is None
    file.close()
    adopted = SpoolFile.adopt(file.path, HEADER)
    assert adopted is not None
    assert SpoolFile.adopt(file.path, HEADER) is None, "one at a time"
    assert adopted.name == file.name
    adopted.close()


def test_one_that_was_removed_meanwhile_is_nobody_s(tmp_path: Path, monkeypatch):
    path = left(tmp_path, 1)
    import fcntl

    real = fcntl.flock

    def removed_first(descriptor: int, operation: int) -> None:
        path.unlink(missing_ok=True)
        real(descriptor, operation)

    monkeypatch.setattr("eventlog.spool_file.fcntl.flock", removed_first)
    assert SpoolFile.adopt(path, HEADER) is None


@pytest.mark.parametrize(
    ("ours", "is_ours"),
    [
        (HEADER, True),
        (SpoolHeader("eventlog", "redis://elsewhere:6379/0", "e1"), True),
        (SpoolHeader("eventlog", "redis://db:6379/0"), True),
        (SpoolHeader("eventlog", "redis://db:6379/0", "e2"), True),
        (SpoolHeader("eventlog", "redis://elsewhere:6379/0"), False),
        (SpoolHeader("eventlog", "redis://elsewhere:6379/0", "e2"), False),
        (SpoolHeader("other", "redis://db:6379/0", "e1"), False),
    ],
)
def test_whose_it_is(tmp_path: Path, ours: SpoolHeader, is_ours: bool):
    path = left(tmp_path, 2)
    assert waiting_counts(tmp_path, ours) == ({path.name: 2} if is_ours else {})
    adopted = SpoolFile.adopt(path, ours)
    assert (adopted is not None) == is_ours
    if adopted is not None:
        adopted.close()


@pytest.mark.parametrize("cut", range(1, 40))
def test_cut_anywhere_the_whole_lines_are_read(tmp_path: Path, cut: int):
    path = left(tmp_path, 3)
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    adopted = SpoolFile.adopt(path, HEADER)
    assert adopted is not None
    found = []
    while not adopted.is_empty:
        page = adopted.next_page()
        found += [each.n for each in page.lines]
        adopted.drained(page)
    assert found == list(range(1, 1 + whole[:-cut].count(b"\n") - 1))
    adopted.close()
    assert not path.exists()


def test_pages_are_bounded_and_a_line_longer_than_one_is_read(tmp_path: Path):
    file = SpoolFile.create(tmp_path, HEADER)
    file.append([line(1, "x" * 3_000_000), *(line(n) for n in range(2, 1202))])
    sizes = []
    while not file.is_empty:
        page = file.next_page()
        sizes.append(len(page.lines))
        file.drained(page)
    assert sum(sizes) == 1201
    assert max(sizes) <= 500
    file.close()


def test_positions_go_on_after_it_was_cleared(tmp_path: Path):
    file = SpoolFile.create(tmp_path, HEADER)
    for first in (1, 3):
        file.append([line(first), line(first + 1)])
        page = file.next_page()
        assert [each.n for each in page.lines] == [first, first + 1]
        file.drained(page)
        file.clear()
        assert file.is_empty
    file.close()
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_spool_is_left_alone(tmp_path: Path):
    for name, content in (("a.spool", b""), ("b.spool", b"\0\n"), ("c.spool", b"no header")):
        (tmp_path / name).write_bytes(content)
        assert SpoolFile.adopt(tmp_path / name, HEADER) is None
    assert SpoolFile.adopt(tmp_path / "none.spool", HEADER) is None
    assert waiting_counts(tmp_path, HEADER) == {}
    assert len(list(tmp_path.iterdir())) == 3


def test_a_header_that_another_version_wrote_takes_what_it_takes(tmp_path: Path):
    path = left(tmp_path, 2)
    path.write_bytes(path.read_bytes().replace(b"{", b'{"kind":"new", ', 1))
    adopted = SpoolFile.adopt(path, HEADER)
    assert adopted is not None
    assert adopted.count_waiting() == 2
    assert [each.n for each in adopted.next_page().lines] == [1, 2]
    adopted.close()
