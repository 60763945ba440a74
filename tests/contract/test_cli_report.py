"""`eventlog report` as a user types it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from eventlog.embedded import EmbeddedServer
from eventlog.settings import Settings
from service.cli.main import run

SAMPLE = Path(__file__).parents[2] / "examples" / "data"
CHAT = "irc:#mediawiki"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data directory that holds the sample data; its server is kept up."""
    folder = tmp_path_factory.mktemp("data")
    server = EmbeddedServer(Settings(data_dir=str(folder)))
    server.start()
    try:
        assert run(["--data-dir", str(folder), "import", str(SAMPLE)]) == 0
        yield folder
    finally:
        server.release()


@pytest.fixture
def report(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """`report(words…)` in an empty folder; returns its exit code."""
    monkeypatch.chdir(tmp_path)
    return lambda *words: run(["--data-dir", str(data), "report", *words])


def test_all_are_listed(report, capsys):
    capsys.readouterr()
    assert report() == 0
    assert "tools             Tool calls and errors by tool    since, until, chat, session" in (
        capsys.readouterr().out
    )
    assert report("--json") == 0
    documents = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {"name", "title", "parameters", "plot"} <= documents[0].keys()


def test_a_table_says_what_was_asked(report, capsys):
    capsys.readouterr()
    assert report("messages-per-day", "--chat", CHAT, "--since", "2013-01-01", "--limit", "1") == 0
    title, head, *lines = capsys.readouterr().out.splitlines()
    assert title == f"Messages per chat and day; since 2013-01-01 00:00 UTC, chat {CHAT}"
    assert head.split() == ["day", "conversation", "messages", "received", "sent"]
    assert len(lines) == 1


def test_a_report_is_written_in_every_form(report, capsys, tmp_path):
    capsys.readouterr()
    suffixes = ("png", "svg", "csv", "json", "parquet")
    for suffix in suffixes:
        assert report("tools", "--to", f"t.{suffix}") == 0
    out, err = capsys.readouterr()
    assert (out, err.count("a picture of"), len(err.splitlines())) == ("", 2, 5)
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")
    assert "Tool calls and errors by tool" in (tmp_path / "t.svg").read_text()
    rows = list(csv.DictReader((tmp_path / "t.csv").read_text().splitlines()))
    lines = [json.loads(line) for line in (tmp_path / "t.json").read_text().splitlines()]
    assert [row["tool"] for row in rows] == [line["tool"] for line in lines]
    assert pq.read_table(tmp_path / "t.parquet").num_rows == len(rows) > 1
    assert sorted(path.suffix for path in tmp_path.iterdir()) == sorted(f".{s}" for s in suffixes)


def test_a_file_is_replaced_only_where_that_is_asked_for(report, capsys, tmp_path):
    (tmp_path / "t.csv").write_text("mine")
    capsys.readouterr()
    assert report("tools", "--to", "t.csv") == 2
    assert "t.csv exists already" in capsys.readouterr().err
    assert (tmp_path / "t.csv").read_text() == "mine"
    assert report("tools", "--to", "t.csv", "--force") == 0
    assert (tmp_path / "t.csv").read_text().startswith('"tool",')
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


def test_your_own_reports_from_a_folder_and_the_data_directory(report, capsys, data, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "one.sql").write_text(
        "-- title: One\n-- parameter: n integer: which\nSELECT $n AS n"
    )
    capsys.readouterr()
    assert report("one", "--folder", "mine", "--param", "n=7", "--json") == 0
    assert capsys.readouterr().out == '{"n":7}\n'
    (data / "reports").mkdir()
    (data / "reports" / "two.sql").write_text("-- title: Two\nSELECT 2 AS two")
    assert report("two", "--json") == 0
    assert capsys.readouterr().out == '{"two":2}\n'
    (data / "reports" / "two.sql").unlink()


@pytest.mark.parametrize(
    ("code", "words", "command"),
    [
        (2, "no report 'tool'; 'tools', perhaps. Reports: busiest-hours, ", "tool"),
        (2, "no parameter 'sesion'; 'session', perhaps. It takes: since", "tools|--param|sesion=x"),
        (2, "write --param NAME=VALUE", "tools|--param|session"),
        (2, "since is given twice", "tools|--since|1d|--param|since=2d"),
        (2, "since=soon is no time", "tools|--since|soon"),
        (2, "name a .png, .svg, .csv, .json or .parquet file", "tools|--to|tools.doc"),
        (2, "cannot write no/t.png: No such file", "tools|--to|no/t.png"),
        (2, "choose one", "tools|--to|t.csv|--json"),
        (2, "nowhere is no folder", "tools|--folder|nowhere"),
        (2, "has no plot", "bare|--folder|.|--to|t.png"),
        (2, "bad.sql:1: '-- nothing' is no part of a header", "bad|--folder|."),
        (1, "shows y, but the result has only x", "wrong|--folder|.|--to|t.png"),
        (1, "no_table", "broken|--folder|."),
    ],
)
def test_what_is_wrong_is_said_in_a_line_and_nothing_is_written(
    report, capsys, tmp_path, code, words, command
):
    (tmp_path / "bare.sql").write_text("-- title: Bare\nSELECT 1 AS x")
    (tmp_path / "wrong.sql").write_text("-- title: W\n-- plot: bars x=x y=y\nSELECT 1 AS x")
    (tmp_path / "broken.sql").write_text("-- title: B\nSELECT * FROM no_table")
    if command.startswith("bad"):
        (tmp_path / "bad.sql").write_text("-- nothing\nSELECT 1")
    before = sorted(tmp_path.iterdir())
    capsys.readouterr()
    assert report(*command.split("|")) == code
    out, err = capsys.readouterr()
    assert words in err
    assert (out, len(err.splitlines())) == ("", 1)
    assert sorted(tmp_path.iterdir()) == before
