"""SQL from outside, in its cage, and named reports."""

from __future__ import annotations

import asyncio
import io
from typing import Annotated, Any, Literal

import msgspec
import pyarrow as pa
from msgspec import Meta
from starlette.responses import Response

from analytics.plotting import draw, picture
from analytics.report_header import Report
from analytics.reports import question, said
from analytics.sandbox.limits import Limits
from eventlog.errors import InvalidQuery, QueryTimeout
from service.http.listing import Asked
from service.http.operation import Routes
from service.http.refusal import Refusal
from service.results import Format, distinct, to_json, write
from service.wiring import Service

routes = Routes("queries")

MAX_TIMEOUT_S = 60.0
REPORT_TIMEOUT_S = 60.0

_MEDIA = {"json": "application/json", "csv": "text/csv; charset=utf-8", "png": "image/png"}

Parameter = str | int | float | bool | None


class Query(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One reading statement over archive and live log."""

    sql: Annotated[str, Meta(min_length=1)]
    parameters: Annotated[list[Parameter], Meta(max_length=1000)] = []
    """For each `?` in turn."""
    limit: Annotated[int, Meta(ge=1, le=100_000)] = 10_000
    """Rows of the result; a query with more is refused, none is cut short."""
    timeout_s: Annotated[float, Meta(gt=0, le=MAX_TIMEOUT_S)] = 10.0
    format: Literal["json", "csv"] = "json"


class Column(msgspec.Struct, frozen=True):
    """A column of a result."""

    name: str
    type: str


class Result(msgspec.Struct, frozen=True):
    """A table. Times are UTC."""

    columns: list[Column]
    rows: list[list[Any]]
    row_count: int


class ReportParameter(msgspec.Struct, frozen=True):
    """Something that a report can be asked with."""

    name: str
    kind: str
    about: str
    default: str | None
    is_required: bool


class ReportInfo(msgspec.Struct, frozen=True):
    """A named report."""

    name: str
    title: str
    description: str
    parameters: list[ReportParameter]
    has_plot: bool


class ReportList(msgspec.Struct, frozen=True):
    """The reports there are."""

    reports: list[ReportInfo]


class WhichReport(Asked, frozen=True, kw_only=True):
    """A report, and what it is asked with."""

    name: Annotated[str, Meta(min_length=1, max_length=100)]
    format: Literal["json", "csv", "png"] = "json"
    since: str | None = None
    """From this time on: 2026-11-20, 2026-11-20T18:30, 7d."""
    until: str | None = None
    chat: str | None = None
    param: list[str] = []
    """NAME=VALUE, any number of them."""


@routes.post("/v1/query", scope="read", answer=Result, media=("application/json", "text/csv"))
async def run_query(service: Service, body: Query) -> Response:
    """Run SQL over archive and live log, in a process that can read them and nothing else.

    It is ended at its limits of time, memory and rows, and when the client goes. Views: events,
    messages, sessions, deliveries, dead_letters, tool_calls, bridge_events.
    """
    sandbox = await service.sandbox()
    limits = Limits(timeout_s=body.timeout_s, row_count=body.limit)
    table = await sandbox.query(body.sql, body.parameters, limits=limits)
    return await asyncio.to_thread(_written, table, body.format)


@routes.get("/v1/reports")
async def list_reports(service: Service) -> ReportList:
    """List the reports there are."""
    return ReportList([_info(each) for each in await asyncio.to_thread(service.reports.all)])


@routes.get(
    "/v1/reports/{name}", answer=Result, media=("application/json", "text/csv", "image/png")
)
async def run_report(service: Service, asked: WhichReport) -> Response:
    """Run a named report over archive and live log: its rows, or its picture."""
    if asked.name not in await asyncio.to_thread(service.reports.names):
        raise Refusal(
            "not_found", f"there is no report {asked.name!r}.", remedy="/v1/reports lists them."
        )
    report = await asyncio.to_thread(service.reports.get, asked.name)
    sql, values = question(report, _given(asked), service.log.clock.now_us())
    warehouse = await service.warehouse()
    try:
        async with asyncio.timeout(REPORT_TIMEOUT_S):
            table = await warehouse.query(sql, values)
    except TimeoutError:
        raise QueryTimeout(
            f"the report took more than {REPORT_TIMEOUT_S:g} s.", remedy="Ask for less time."
        ) from None
    if asked.format == "png":
        return await asyncio.to_thread(_drawn, report, said(report, values), table)
    return await asyncio.to_thread(_written, table, asked.format)


def _given(asked: WhichReport) -> dict[str, str]:
    named = {"since": asked.since, "until": asked.until, "chat": asked.chat}
    given = {name: value for name, value in named.items() if value is not None}
    for pair in asked.param:
        name, sign, value = pair.partition("=")
        if not sign or not name or name in given:
            raise InvalidQuery(
                f"parameter {pair!r} is not one NAME=VALUE.", remedy="Give each once."
            )
        given[name] = value
    return given


def _written(table: pa.Table, chosen: Literal["json", "csv"]) -> Response:
    if chosen == "csv":
        file = io.BytesIO()
        write(table, Format.CSV, file)
        return Response(file.getvalue(), media_type=_MEDIA["csv"])
    names = distinct(table.column_names)
    columns = [
        Column(name, str(field.type)) for name, field in zip(names, table.schema, strict=True)
    ]
    lists = [_values(column) for column in table.columns]
    rows = [list(row) for row in zip(*lists, strict=True)]
    document = {"columns": columns, "rows": rows, "row_count": table.num_rows}
    return Response(to_json(document), media_type=_MEDIA["json"])


def _values(column: pa.ChunkedArray) -> list[Any]:
    try:
        values: list[Any] = column.to_pylist()
    except (OverflowError, ValueError):  # a time that Python has no room for
        values = column.cast(pa.string()).to_pylist()
    return values


def _drawn(report: Report, subtitle: str, table: pa.Table) -> Response:
    if report.plot is None:
        raise InvalidQuery(f"report {report.name!r} has no plot.", remedy="Ask for json or csv.")
    figure = draw(report.plot, report.title, subtitle, table)
    return Response(picture(figure, "png"), media_type=_MEDIA["png"])


def _info(report: Report) -> ReportInfo:
    return ReportInfo(
        report.name,
        report.title,
        report.description,
        [
            ReportParameter(
                each.name,
                each.kind,
                each.about,
                None if each.default is None else str(each.default),
                each.is_required,
            )
            for each in report.parameters
        ],
        report.plot is not None,
    )
