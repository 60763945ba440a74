"""`eventlog report`: named queries as a table, a picture or a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pyarrow as pa
import typer

from analytics.plotting import PictureFormat, draw, picture
from analytics.report_header import Parameter, Report
from analytics.reports import Reports, question, said
from eventlog.errors import ConfigurationError
from eventlog.log import EventLog
from eventlog.settings import Settings
from service.cli.options import AsJson, examples, run, settings_of
from service.cli.output import binary_output, console, print_json, print_table, say
from service.cli.result_table import print_result
from service.cli.written_file import written_file
from service.results import Format, format_of, write
from service.wiring import open_warehouse

_PICTURES: dict[str, PictureFormat] = {".png": "png", ".svg": "svg"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog=examples(
            "eventlog report",
            "eventlog report tools --since 7d",
            "eventlog report messages-per-day --chat 'irc:#mediawiki' --to days.png",
            "eventlog report dead-letters --param group=delivery --to letters.csv",
            also="A report of your own is a SQL file in the folder `reports` of the data"
            " directory; docs/howto/make-a-report.md says how it begins.",
        )
    )(report)


def report(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(help="Which report; without it all are listed.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="From this time on: 2026-11-20, 2026-11-20T18:30, 7d.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Before this time.")] = None,
    chat: Annotated[str | None, typer.Option(help="Only this conversation.")] = None,
    parameters: Annotated[
        list[str] | None,
        typer.Option(
            "--param", metavar="NAME=VALUE", help="A parameter of the report; may be repeated."
        ),
    ] = None,
    to: Annotated[
        Path | None, typer.Option(help="Write to a file: .png, .svg, .csv, .json or .parquet.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first rows.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
    folder: Annotated[
        Path | None, typer.Option(help="Reports of your own, beside the setting reports_dir.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a named report over archive and live log, or list the reports there are.

    Times are UTC. An age, as 7d or 1d12h, counts back from now.
    """
    settings = settings_of(context)
    reports = _reports(settings, folder)
    if name is None:
        _list(reports, as_json=as_json)
        return
    chosen = reports.get(name)
    given = _given(parameters or [], since=since, until=until, chat=chat)
    _require_writable(chosen, to, as_json=as_json)
    table, subtitle = run(_run(settings, chosen, given))
    if limit is not None:
        table = table.slice(0, limit)
    if to is not None:
        _write(chosen, table, subtitle, to, force=force)
    elif as_json:
        with binary_output() as file:
            write(table, Format.JSON, file)
    else:
        console.print(f"{chosen.title}; {subtitle}", style="bold", markup=False, soft_wrap=True)
        print_result(table, hint="--to FILE.csv has all")


def _reports(settings: Settings, folder: Path | None) -> Reports:
    if folder is not None and not folder.is_dir():
        raise ConfigurationError(f"{folder} is no folder.", remedy="Name one with --folder.")
    return Reports([settings.reports_path, *([folder] if folder else [])])


def _list(reports: Reports, *, as_json: bool) -> None:
    found = reports.all()
    if as_json:
        for each in found:
            print_json(each._asdict())
        return
    rows = [(each.name, each.title, ", ".join(map(_shown, each.parameters))) for each in found]
    print_table(("report", "shows", "parameters"), rows)


def _shown(parameter: Parameter) -> str:
    if parameter.is_required:
        return f"{parameter.name} (needed)"
    return parameter.name if parameter.default is None else f"{parameter.name}={parameter.default}"


def _given(pairs: list[str], **options: str | None) -> dict[str, str]:
    given = {name: value for name, value in options.items() if value is not None}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign or not name:
            raise typer.BadParameter(f"{pair!r}: write --param NAME=VALUE.")
        if name in given:
            raise typer.BadParameter(f"{name} is given twice.")
        given[name] = value
    return given


def _require_writable(report: Report, to: Path | None, *, as_json: bool) -> None:
    """Refuse what cannot be written before anything is asked."""
    if to is None:
        return
    if as_json:
        raise typer.BadParameter("--json prints, --to writes a file: choose one.")
    if to.suffix.lower() in _PICTURES:
        if report.plot is None:
            raise typer.BadParameter(f"report {report.name} has no plot: choose csv or parquet.")
    elif format_of(to) is None:
        raise typer.BadParameter(f"{to}: name a .png, .svg, .csv, .json or .parquet file.")


async def _run(settings: Settings, report: Report, given: dict[str, str]) -> tuple[pa.Table, str]:
    """Return the result, and in words what was asked for."""
    async with EventLog.open(settings=settings) as log, open_warehouse(log) as warehouse:
        sql, values = question(report, given, log.clock.now_us())
        return await warehouse.query(sql, values), said(report, values)


def _write(report: Report, table: pa.Table, subtitle: str, to: Path, *, force: bool) -> None:
    kind = _PICTURES.get(to.suffix.lower())
    with written_file(to, replaces=force) as file:
        if kind is not None:
            assert report.plot is not None
            figure = draw(report.plot, report.title, subtitle, table)
            file.write(picture(figure, kind))
        else:
            chosen = format_of(to)
            assert chosen is not None
            write(table, chosen, file)
    what = "a picture of " if kind else ""
    say(f"{what}{table.num_rows:,} rows written to {to}")
