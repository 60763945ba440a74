"""The warehouse without an event loop, and its answers in the forms there are."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from analytics import Answer, BlockingWarehouse, connect, open_warehouse
from eventlog import BlockingEventLog, MessageReceived
from eventlog.errors import ConfigurationError, InvalidQuery, LogNotOpen, QueryFailed
from tests.cli import processes_of

TEXTS = "SELECT text FROM messages ORDER BY text"


@pytest.fixture
def log(server_url: str, request: pytest.FixtureRequest) -> Iterator[BlockingEventLog]:
    with BlockingEventLog.open(server_url, key_prefix=f"nb{id(request)}", partition_count=2) as log:
        yield log


@pytest.fixture
def warehouse(
    log: BlockingEventLog, server_url: str, tmp_path: Path
) -> Iterator[BlockingWarehouse]:
    prefix = log.log.settings.key_prefix
    with open_warehouse(server_url, key_prefix=prefix, data_dir=str(tmp_path)) as opened:
        yield opened


def said(log: BlockingEventLog, text: str) -> None:
    log.append(MessageReceived(conversation="c", text=text, occurred_at=1_000_000))


def test_each_query_sees_what_was_appended_just_before(
    log: BlockingEventLog, warehouse: BlockingWarehouse
) -> None:
    for text in "abc":
        said(log, text)
        assert warehouse.query(TEXTS).rows()[-1] == {"text": text}
    assert len(warehouse.query(TEXTS, limit=2)) == 2
    with pytest.raises(QueryFailed, match="nowhere"):
        warehouse.query("FROM nowhere")


def test_a_connection_of_one_s_own_stays_where_it_is_until_it_is_refreshed(
    log: BlockingEventLog, warehouse: BlockingWarehouse
) -> None:
    said(log, "a")
    connection = warehouse.connect()
    connection.execute("CREATE TABLE mine AS FROM messages").fetchall()
    said(log, "b")
    assert connection.sql(TEXTS).fetchall() == [("a",)]
    warehouse.refresh(connection)
    assert connection.sql(TEXTS).pl()["text"].to_list() == ["a", "b"]
    assert connection.sql(TEXTS).to_arrow_table().num_rows == 2
    assert connection.sql("FROM mine").fetchall() != []
    connection.close()


def test_answers_in_every_form(log: BlockingEventLog, warehouse: BlockingWarehouse) -> None:
    said(log, "a <b>")
    answer = warehouse.query("SELECT text, occurred_at, sequence FROM messages WHERE $x", {"x": 1})
    assert answer.columns == ["text", "occurred_at", "sequence"]
    assert answer.arrow().schema.field("occurred_at").type == pa.timestamp("us")
    frame = answer.polars()
    assert frame.schema["occurred_at"] == pl.Datetime("us")
    assert frame.row(0) == ("a <b>", datetime.fromisoformat("1970-01-01T00:00:01"), 1)
    assert repr(answer) == "<1 rows: text, occurred_at, sequence>"
    assert "<td>a &lt;b&gt;</td>" in answer._repr_html_()
    assert len(answer) == 1


def test_a_notebook_shows_the_beginning_of_a_long_answer_and_any_time() -> None:
    long = Answer(pa.table({"n": range(1000)}))
    assert long._repr_html_().count("<tr>") == 21
    assert "20 of 1,000 rows" in long._repr_html_()
    far = pa.table({"t": pa.array([2**62], pa.timestamp("us"))})
    assert "<td>" in Answer(far)._repr_html_()


def test_pandas(log: BlockingEventLog, warehouse: BlockingWarehouse) -> None:
    pd = pytest.importorskip("pandas", reason="`.ci/run` runs this with pandas")
    said(log, "a")
    frame = warehouse.query("SELECT text, occurred_at FROM messages").pandas()
    assert list(frame["text"]) == ["a"]
    assert frame["occurred_at"][0] == pd.Timestamp("1970-01-01T00:00:01")
    connection = warehouse.connect()
    assert list(connection.sql(TEXTS).df()["text"]) == ["a"]
    connection.close()


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_what_is_not_installed_is_named(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ConfigurationError, match=rf"eventlog\[{library}\]"):
        getattr(Answer(pa.table({"n": [1]})), library)()


def test_reports(log: BlockingEventLog, warehouse: BlockingWarehouse, tmp_path: Path) -> None:
    said(log, "a")
    answer = warehouse.report("messages-per-day", chat="c")
    assert answer.polars()["messages"].to_list() == [1]
    assert answer.figure().get_axes()[0].get_title("left") == "chat c"
    assert len(warehouse.report("messages-per-day", since="1d")) == 0
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "mine.sql").write_text("-- title: Mine\nSELECT 1 AS one")
    assert "mine" in warehouse.reports().polars()["report"].to_list()
    with pytest.raises(InvalidQuery, match="'mine' has no plot"):
        warehouse.report("mine").figure()
    with pytest.raises(InvalidQuery, match="no parameter 'when'"):
        warehouse.report("tools", when="now")


def test_an_archive_alone_needs_no_server(tmp_path: Path) -> None:
    with open_warehouse(archive=tmp_path) as warehouse:
        assert len(warehouse.query("FROM events")) == 0
    warehouse.close()
    with pytest.raises(LogNotOpen, match="open_warehouse"):
        warehouse.query("SELECT 1")
    with pytest.raises(ConfigurationError, match="archive_dir"):
        open_warehouse(archive=tmp_path, data_dir="x")
    plain = connect(tmp_path)
    assert plain.sql("SELECT count(*) FROM events").fetchall() == [(0,)]
    plain.close()


def test_a_program_may_end_without_closing_it(tmp_path: Path) -> None:
    program = "from analytics import open_warehouse; print(open_warehouse().query('SELECT 1 AS n'))"
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "EVENTLOG_DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "<1 rows: n>\n", "")
    assert processes_of(tmp_path) == []
