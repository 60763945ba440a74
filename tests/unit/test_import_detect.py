from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from bridge.importers import source as source_module
from bridge.importers.detect import detect_format, sources
from bridge.importers.items import Rejected
from bridge.importers.neutral import parse
from bridge.importers.report import MAX_REJECTED_SHOWN, FileReport, ImportReport, RejectedLine
from bridge.importers.source import Source
from eventlog.errors import ImportFailed

ROOT = Path(__file__).parent.parent.parent
NEUTRAL = '{"id":"a","ts":1,"kind":"msg.in","chat":"c","text":"x"}\n'


def test_a_folder_is_searched_and_its_companions_left_out():
    found = sources([ROOT / "examples" / "data"])
    assert [
        (s.label, s.format_name) for s in found.sources if not s.label.startswith("bounces")
    ] == [
        ("agent-openhands/output.jsonl", "openhands"),
        ("irc-new-domains/mediawiki.0.ascii.txt", "irc"),
    ]
    assert {s.format_name for s in found.sources if s.label.startswith("bounces")} == {"bounce"}
    assert ("README.md", "lies beside the records") in found.skipped
    assert len(found.skipped) == 4


def test_formats_of_the_test_data():
    found = sources([ROOT / "tests" / "data"])
    assert {s.label.split("/")[0]: s.format_name for s in found.sources} == {
        "irc-ubuntu": "irc",
        "agent-claude-code": "claude-code",
        "agent-tau-bench": "tau-bench",
    }


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", None),
        ("just words\n", None),
        ("{}\n", None),
        ("=== a heading ===\n\ntext\n", None),
        ("not json\n" + NEUTRAL, "neutral"),
        ("=== cat has joined #x\n[09:14] <cat> hi\n", "irc"),
        ('{"type": "user", "sessionId": "s"}\n', "claude-code"),
        ("Return-Path: <>\nSubject: no\n\nbody\n", "bounce"),
        ("Note: this is prose\n", None),
    ],
)
def test_content_decides(tmp_path, content, expected):
    path = tmp_path / "file"
    path.write_text(content)
    assert detect_format(path) == expected


def test_an_unknown_file_is_an_error_by_name_and_skipped_in_a_folder(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("just words\n")
    with pytest.raises(ImportFailed, match="no format known"):
        sources([path])
    assert sources([tmp_path]).skipped == [("notes.txt", "no known format")]


def test_a_missing_path_is_an_error(tmp_path):
    with pytest.raises(ImportFailed, match="no file or folder"):
        sources([tmp_path / "gone"])


def test_hidden_files_are_passed_over(tmp_path):
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x.jsonl").write_text(NEUTRAL)
    assert sources([tmp_path]) == ([], [])


def test_several_paths_keep_their_files_apart(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.jsonl").write_text(NEUTRAL)
    labels = [s.label for s in sources([tmp_path / "a", tmp_path / "b"]).sources]
    assert labels == [f"{tmp_path}/a/x.jsonl", f"{tmp_path}/b/x.jsonl"]


def test_a_truncated_archive_is_an_error(tmp_path):
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(b"\x1f\x8b\x08\x00 cut")
    with pytest.raises(ImportFailed, match="cannot be read"):
        sources([path])


def test_a_source_says_how_far_it_has_come(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text(NEUTRAL * 3)
    source = Source(path)
    assert source.bytes_done == 0
    assert [number for number, _ in source.lines()] == [1, 2, 3]
    assert source.bytes_done == source.size_bytes == source.text_bytes == 3 * len(NEUTRAL)


def test_a_byte_order_mark_and_windows_line_ends_are_no_content(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + NEUTRAL.strip().encode() + b"\r\n")
    assert list(Source(path).lines()) == [(1, NEUTRAL.strip().encode())]


def test_an_endless_line_is_cut_and_the_next_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(source_module, "MAX_LINE_BYTES", 100)
    path = tmp_path / "x.jsonl"
    path.write_text(f'{{"id": "{"x" * 1000}"}}\n{NEUTRAL}')
    items = list(parse(Source(path)))
    assert [i.line for i in items if isinstance(i, Rejected)] == [1]
    assert items[-1].line == 2


def test_reports_add_up():
    report = ImportReport()
    for number in (1, 2):
        part = ImportReport(skipped=[("x", "y")])
        file = part.file(f"a/{number}", "irc")
        file.count(("message", "senders"))
        file.events_added = 3
        file.rejected_count = MAX_REJECTED_SHOWN
        part.rejected = [RejectedLine("a", n, "bad") for n in range(MAX_REJECTED_SHOWN)]
        report.merge(part)
    report.file("b", "irc").count(("message",))
    assert report.counts("a/") == {"message": 2, "senders": 2}
    assert report.counts() == {"message": 3, "senders": 2}
    assert (report.events_added, report.rejected_count) == (6, 2 * MAX_REJECTED_SHOWN)
    assert len(report.rejected) == MAX_REJECTED_SHOWN
    assert str(report.rejected[7]) == "a:7: bad"
    assert msgspec.json.decode(msgspec.json.encode(report), type=ImportReport) == report


def test_merging_leaves_the_other_report_alone():
    one = ImportReport(files={"a": FileReport("irc", {"message": 1})})
    total = ImportReport()
    total.merge(one)
    total.merge(one)
    assert (one.counts()["message"], total.counts()["message"]) == (1, 2)
