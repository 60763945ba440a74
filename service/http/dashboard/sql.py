"""SQL over archive and live log, in its cage, and named reports: rows, a picture, files to keep."""

from __future__ import annotations

import asyncio
import io
import time
from typing import Any

import pyarrow as pa
from starlette.responses import Response

from analytics.connection import VIEWS
from analytics.report_header import Report
from analytics.reports import question, said
from analytics.sandbox.limits import Limits
from eventlog.errors import EventLogError, QueryTimeout
from service.http.dashboard.page import Ask, not_found
from service.http.dashboard.results import SHOWN_ROWS, Shown, shown
from service.results import Format, write
from service.wiring import Service

LIMITS = Limits(timeout_s=20.0, row_count=50_000)
REPORT_TIMEOUT_S = 60.0

FIRST = """SELECT date_trunc('day', occurred_at) AS day, count(*) AS messages
FROM messages
GROUP BY 1
ORDER BY 1"""

EXAMPLES = (
    ("Messages per day", FIRST),
    ("Events by type", "SELECT type, count(*) AS events\nFROM events\nGROUP BY 1\nORDER BY 2 DESC"),
    (
        "Slowest tools",
        "SELECT name, count(*) AS calls, round(quantile_cont(duration_ms, 0.95)) AS p95_ms\n"
        "FROM tool_calls\nGROUP BY 1\nORDER BY 3 DESC",
    ),
    (
        "Dead letters by reason",
        "SELECT reason, count(*) AS letters\nFROM dead_letters\nGROUP BY 1\nORDER BY 2 DESC",
    ),
)

_MEDIA = {Format.CSV: "text/csv; charset=utf-8", Format.PARQUET: "application/vnd.apache.parquet"}


async def sql_page(ask: Ask) -> Response:
    """Return the editor. A text in the address is put into it, and not run."""
    return await _editor(ask, ask.query("sql") or FIRST)


async def run_sql(ask: Ask) -> Response:
    """Run what is in the editor; an error is told beside it, with the text still there."""
    sql = ask.form.get("sql")
    if not sql:
        return await _editor(ask, FIRST)
    started_s = time.perf_counter()
    try:
        table = await (await ask.service.sandbox()).query(sql, limits=LIMITS)
    except EventLogError as error:
        return await _editor(ask, sql, error=error)
    elapsed_ms = (time.perf_counter() - started_s) * 1000
    result = await asyncio.to_thread(shown, table)
    return await _editor(ask, sql, result=result, elapsed_ms=elapsed_ms)


async def download_sql(ask: Ask) -> Response:
    """Run what is in the editor, and return the rows as a file."""
    sql, chosen = ask.form.get("sql"), _format(ask.form.get("format"))
    table = await (await ask.service.sandbox()).query(sql, limits=LIMITS)
    return await _file(table, chosen, "result")


async def report_page(ask: Ask) -> Response:
    """Return a report's rows and picture, or its rows as a file."""
    report = await _report(ask.service, ask.path("name"))
    asked = ask.request.query_params
    given = {p.name: asked[p.name] for p in report.parameters if asked.get(p.name, "").strip()}
    error, result, subtitle, elapsed_ms = None, None, "", 0.0
    missing = [p.name for p in report.parameters if p.is_required and p.name not in given]
    if not missing:
        started_s = time.perf_counter()
        try:
            sql, values = question(report, given, ask.now_us)
            subtitle = said(report, values)
            table = await _answered(ask.service, sql, values)
            if chosen := ask.query("format"):
                return await _file(table, _format(chosen), report.name)
            result = await asyncio.to_thread(shown, table, report.plot)
        except EventLogError as caught:
            error = caught
        elapsed_ms = (time.perf_counter() - started_s) * 1000
    return await ask.page(
        "report.html",
        status=200 if error is None else 422,
        report=report,
        given=given,
        missing=missing,
        subtitle=subtitle,
        result=result,
        error=error,
        elapsed_ms=elapsed_ms,
        shown_rows=SHOWN_ROWS,
        reports=await asyncio.to_thread(ask.service.reports.all),
    )


async def _editor(
    ask: Ask,
    sql: str,
    *,
    result: Shown | None = None,
    error: EventLogError | None = None,
    elapsed_ms: float = 0.0,
) -> Response:
    return await ask.page(
        "sql.html",
        status=200 if error is None else 422,
        sql=sql,
        result=result,
        error=error,
        elapsed_ms=elapsed_ms,
        shown_rows=SHOWN_ROWS,
        limits=LIMITS,
        examples=EXAMPLES,
        views=VIEWS,
        reports=await asyncio.to_thread(ask.service.reports.all),
    )


async def _answered(service: Service, sql: str, values: Any) -> pa.Table:
    warehouse = await service.warehouse()
    try:
        async with asyncio.timeout(REPORT_TIMEOUT_S):
            return await warehouse.query(sql, values)
    except TimeoutError:
        raise QueryTimeout(
            f"the report took more than {REPORT_TIMEOUT_S:g} s.", remedy="Ask for less time."
        ) from None


async def _report(service: Service, name: str) -> Report:
    if name not in await asyncio.to_thread(service.reports.names):
        raise not_found(f"there is no report {name!r}.", "The SQL page lists those there are.")
    return await asyncio.to_thread(service.reports.get, name)


def _format(name: str) -> Format:
    return Format.PARQUET if name == "parquet" else Format.CSV


async def _file(table: pa.Table, chosen: Format, name: str) -> Response:
    file = io.BytesIO()
    await asyncio.to_thread(write, table, chosen, file)
    return Response(
        file.getvalue(),
        media_type=_MEDIA[chosen],
        headers={"Content-Disposition": f'attachment; filename="{name}.{chosen}"'},
    )
