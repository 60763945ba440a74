"""Queries: the reports over compacted segments, over the same events as JSON lines, and in a Python loop.

DuckDB reads the JSON lines through the same views, with every column's type given, so that it has
nothing to guess; and, beside that, as `read_json_auto` finds them, which is what one types first. All
give the same numbers, which is checked, but for a guess that lacks a column: it is left out. They take
turns; the loop, which is the slowest and the steadiest, runs once.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from statistics import median
from typing import Any

import duckdb
import pyarrow as pa

from analytics import Archiver, Compactor, Copiers, DirectoryStorage, Reports, Warehouse, connect
from analytics.columns import SCHEMA
from analytics.reports import question
from bench.events import chat_events
from bench.from_file import import_file, write_log
from bench.query_events import record
from bench.query_loops import LOOPS
from bench.row import Row
from eventlog import EventLog
from eventlog.clock import SystemClock
from eventlog.collector import spared_collector

ROUNDS = 3
TAIL_EVENTS = 100_000
TYPED, GUESSED, LOOP = "DuckDB over JSON lines", "the same, types guessed", "a Python loop"
AIMS = {TYPED: 15.0, GUESSED: None, LOOP: 100.0}
"""How many times as fast the reports want to be. The rival that is told all types is the faster one."""
MOST_OF_LINES = 0.1
"""What a look-up may cost of what it costs over JSON lines."""
MOST_FOR_TAIL_S = 0.5
_SQL = Path(__file__).parent / "sql"
_TYPES = {pa.int32(): "INTEGER", pa.int64(): "BIGINT", pa.bool_(): "BOOLEAN"}
BARE_TIMES = ("occurred_at", "appended_at")

Query = tuple[str, dict[str, Any]]


def over_lines(lines: Path, *, are_guessed: bool = False) -> duckdb.DuckDBPyConnection:
    """Return a connection whose views read the JSON lines, with types that are given or guessed."""
    connection = connect(lines.parent / "no-archive")
    names = {f.name: "BIGINT" if f.name in BARE_TIMES else _TYPES.get(f.type, "VARCHAR")
             for f in SCHEMA}  # fmt: skip
    columns = ", ".join(f"'{name}': '{kind}'" for name, kind in names.items())
    file = "json_guessed.sql" if are_guessed else "json_lines.sql"
    text = (_SQL / file).read_text(encoding="utf-8")
    connection.execute("SET VARIABLE json_lines = ?", [str(lines)]).fetchall()
    connection.execute(text.replace("{columns}", f"{{{columns}}}"))
    return connection


def took_s(connection: duckdb.DuckDBPyConnection, query: Query) -> tuple[float, pa.Table]:
    """Return how long the query took, and its result."""
    started = time.perf_counter()
    table = connection.sql(query[0], params=query[1]).to_arrow_table()
    return time.perf_counter() - started, table


def compared(
    sources: Sequence[duckdb.DuckDBPyConnection], query: Query
) -> tuple[list[float], list[pa.Table]]:
    """Return the median time of the query on each of the sources, and what they gave."""
    times: list[list[float]] = [[] for _ in sources]
    results: list[pa.Table] = []
    for _ in range(ROUNDS):
        results = []
        for source, own in zip(sources, times, strict=True):
            elapsed_s, table = took_s(source, query)
            own.append(elapsed_s)
            results.append(table)
    return [median(own) for own in times], results


def report_rows(
    segments: duckdb.DuckDBPyConnection,
    rivals: Mapping[str, duckdb.DuckDBPyConnection],
    lines: Path,
    n: int,
) -> list[Row]:
    """Return a row for each report and each of its rivals, and the geometric means."""
    rows: list[Row] = []
    ratios: dict[str, list[float]] = {**{name: [] for name in rivals}, LOOP: []}
    for name, (loop, column) in LOOPS.items():
        query = question(Reports().get(name), {}, 0)
        (ours_s, *theirs_s), tables = compared((segments, *rivals.values()), query)
        started = time.perf_counter()
        looped = loop(lines)
        loop_s = time.perf_counter() - started
        found = [
            t.num_rows if column is None else sum(t.column(column).to_pylist()) for t in tables
        ]
        for rival, rival_s, said in zip(
            ratios, (*theirs_s, loop_s), (*found[1:], looped), strict=True
        ):
            if said != found[0]:
                # Whoever guesses leaves out columns that no line of its sample has.
                assert rival == GUESSED, (name, rival, found[0], said)
                continue
            ratios[rival].append(rival_s / ours_s)
            rows.append(
                Row(f"report {name}", n / ours_s, rival, n / rival_s, rival_s / ours_s, None)
            )
    for rival, found_ratios in ratios.items():
        mean = prod(found_ratios) ** (1 / len(found_ratios))
        rows.append(Row("reports, geometric mean", mean, rival, 1, mean, AIMS[rival]))
    return rows


def look_up_rows(
    segments: duckdb.DuckDBPyConnection, by_lines: duckdb.DuckDBPyConnection
) -> list[Row]:
    """Return what a chat's last messages and a session's transcript cost, of their cost over lines."""
    rows = []
    ranked = segments.sql(
        "SELECT conversation FROM messages GROUP BY ALL ORDER BY count(*) DESC, conversation"
    ).fetchall()
    [session] = segments.sql("SELECT quantile_disc(session, 0.5) FROM sessions").fetchall()
    names = {
        "last 100 messages, busiest chat": ("last_messages", ranked[0][0]),
        "last 100 messages, a quiet chat": ("last_messages", ranked[len(ranked) // 2][0]),
        "transcript of a session": ("transcript", session[0]),
    }
    for what, (file, value) in names.items():
        query = (_SQL / f"{file}.sql").read_text(encoding="utf-8"), {"name": value}
        (ours_s, lines_s), (ours, theirs) = compared((segments, by_lines), query)
        assert ours.num_rows == theirs.num_rows, what
        rows.append(
            Row(what, 1 / ours_s, TYPED, 1 / lines_s, ours_s / lines_s,
                MOST_OF_LINES, is_cost=True)
        )  # fmt: skip
    return rows


async def tail_row(log: EventLog, archive: Path) -> Row:
    """Return what a live tail adds to the first query of a warehouse, of what it may add."""

    async def first_query_s() -> float:
        async with Warehouse.open(log, archive) as warehouse:
            started = time.perf_counter()
            await warehouse.query(*question(Reports().get("messages-per-day"), {}, 0))
            return time.perf_counter() - started

    without = median([await first_query_s() for _ in range(ROUNDS)])
    events = chat_events(TAIL_EVENTS, seed=11)
    producer = await log.producer("tail")
    for start in range(0, TAIL_EVENTS, 20_000):
        chunk = events[start : start + 20_000]
        await producer.append([(start + i + 1, event) for i, event in enumerate(chunk)])
    del events
    with_tail = median([await first_query_s() for _ in range(ROUNDS)])
    added_s = with_tail - without
    return Row(
        f"a live tail of {TAIL_EVENTS:,} adds", 1 / added_s, "half a second", 1 / MOST_FOR_TAIL_S,
        added_s / MOST_FOR_TAIL_S, 1.0, is_cost=True,
    )  # fmt: skip


class TomorrowsClock(SystemClock):
    """The clock of a day on which what is appended today can be compacted."""

    def now_us(self) -> int:
        """Wall clock two days on."""
        return super().now_us() + 2 * 24 * 3600 * 1_000_000


async def compact(log: EventLog, archive: Path) -> None:
    """Compact the archive as `eventlog up` does once the day is over."""
    async with EventLog(log.settings, log.codec, TomorrowsClock()) as later:
        report = await Compactor(later, DirectoryStorage(archive)).run_once()
    assert report.written, report


async def measure(events: int | Path, folder: Path) -> list[Row]:
    """Return the rows, measured on a log of their own in `folder`: so many events, or a file's."""
    archive, lines = folder / "archive", folder / "events.jsonl"
    async with EventLog.open(data_dir=str(folder / "data"), partition_count=4) as log:
        if isinstance(events, Path):
            event_count = await import_file(log, events)
            await write_log(log, lines)
        else:
            event_count = events
            await record(log, lines, event_count)
        async with Copiers(2) as copiers:
            archiver = Archiver(log, DirectoryStorage(archive), copiers=copiers)
            await archiver.run_once()
            await archiver.close()
        await compact(log, archive)
        rows = await asyncio.to_thread(_looked, archive, lines, event_count)
        return [*rows, await tail_row(log, archive)]


def _looked(archive: Path, lines: Path, event_count: int) -> list[Row]:
    with (
        connect(archive) as segments,
        over_lines(lines) as typed,
        over_lines(lines, are_guessed=True) as guessed,
    ):
        rows = report_rows(segments, {TYPED: typed, GUESSED: guessed}, lines, event_count)
        return rows + look_up_rows(segments, typed)


def run(events: int | Path) -> list[Row]:
    """Return the rows of so many events, or of a file's; a server is started and stopped for it."""
    with spared_collector(), tempfile.TemporaryDirectory(prefix="eventlog-bench-") as folder:
        return asyncio.run(measure(events, Path(folder)))
