"""`eventlog import`: files and folders into the log."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from bridge.importers.importing import import_paths
from bridge.importers.report import ImportReport
from eventlog.log import EventLog
from eventlog.settings import Settings
from projections.projecting.projector import Projector
from service.cli.options import AsJson, examples, run, settings_of
from service.cli.output import (
    INCOMPLETE,
    OK,
    console,
    print_json,
    print_table,
    say,
)
from service.cli.progress import ProgressBars
from service.wiring import new_past

NO_KNOWN_FORMAT = "no known format"
"""How the report says that a file is of none."""
TELL_INTERVAL_S = 0.3
REJECTED_SHOWN = 20
SKIPPED_SHOWN = 5


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(
        "import",
        epilog=examples(
            "eventlog import examples/data",
            "eventlog import chat.jsonl --strict",
            "eventlog import logs/ --json",
            also="Importing again adds nothing; an interrupted import goes on where it stopped."
            " Exit code 3 when something was left out.",
        ),
    )
    def import_command(
        context: typer.Context,
        paths: Annotated[list[Path], typer.Argument(help="Files or folders.", show_default=False)],
        strict: Annotated[
            bool, typer.Option("--strict", help="Stop at the first bad line.")
        ] = False,
        project: Annotated[
            bool, typer.Option(help="Bring the read models up to date afterwards.")
        ] = True,
        as_json: AsJson = False,
    ) -> None:
        """Import IRC logs, OpenHands, Claude Code and tau-bench sessions, bounce mails, JSON lines.

        The format is found out from the content. A bad line is reported as `file:line: reason`
        and left out.
        """
        settings = settings_of(context)
        report = run(_import(settings, paths, strict=strict, project=project, quiet=as_json))
        if as_json:
            print_json(_totals(report))
        else:
            _show(report, paths)
        is_whole = report.files and not report.rejected_count and not unknown_files(report)
        raise typer.Exit(OK if is_whole else INCOMPLETE)


async def _import(
    settings: Settings, paths: list[Path], *, strict: bool, project: bool, quiet: bool
) -> ImportReport:
    async with EventLog.open(settings=settings) as log:
        with ProgressBars(quiet=quiet) as bars:
            try:
                report = await import_paths(log, paths, strict=strict, progress=bars.show)
                if project and report.events_added:
                    await _project(log, bars)
            except asyncio.CancelledError:
                bars.stop()
                say(
                    f"interrupted after {bars.events_added:,} events were added; import the same"
                    " again and it goes on from there"
                )
                raise
    return report


async def _project(log: EventLog, bars: ProgressBars) -> None:
    """Bring the read models up to date, telling how much is left."""
    projector = Projector(log, past=new_past(log))
    projecting = asyncio.create_task(projector.run_until_caught_up())
    try:
        with bars.waiting("updating read models") as tell:
            while not projecting.done():
                left = sum(partition.lag_count for partition in await projector.status())
                tell(f"{left:,} events to go")
                await asyncio.wait({projecting}, timeout=TELL_INTERVAL_S)
    finally:
        projecting.cancel()
        await asyncio.wait({projecting})
    projecting.result()


def _totals(report: ImportReport) -> dict[str, Any]:
    return {
        "events_added": report.events_added,
        "duplicates_skipped": report.duplicates_skipped,
        "rejected_count": report.rejected_count,
        **msgspec.to_builtins(report),
    }


def _show(report: ImportReport, paths: list[Path]) -> None:
    by_folder: dict[str, ImportReport] = {}
    for label, file in report.files.items():
        folder = label.rpartition("/")[0] or label
        by_folder.setdefault(folder, ImportReport()).file(label, file.format_name).merge(file)
    rows = []
    for folder, part in by_folder.items():
        counts = ", ".join(f"{kind} {count:,}" for kind, count in part.counts().most_common(6))
        rows.append((folder, len(part.files), part.events_added, part.duplicates_skipped, counts))
    if rows:
        print_table(("source", "files", "events added", "known already", "holds, by kind"), rows)
    else:
        named = ", ".join(map(str, paths))
        say(f"nothing to import: {named} holds no file of a known format", "yellow")
    _show_left_out(report)
    console.print(
        f"\n{report.events_added:,} events added, {report.duplicates_skipped:,} known already, "
        f"{report.rejected_count:,} lines refused."
    )


def _show_left_out(report: ImportReport) -> None:
    for line in report.rejected[:REJECTED_SHOWN]:
        say(str(line), "yellow")
    hidden = report.rejected_count - len(report.rejected[:REJECTED_SHOWN])
    if hidden:
        say(f"… and {hidden:,} more; --json has them", "yellow")
    unknown = unknown_files(report)
    for label in unknown[:SKIPPED_SHOWN]:
        say(f"{label}: of no known format, left out", "yellow")
    if len(unknown) > SKIPPED_SHOWN:
        say(f"… and {len(unknown) - SKIPPED_SHOWN:,} files more; --json has them", "yellow")


def unknown_files(report: ImportReport) -> list[str]:
    """Return the files of no known format; READMEs and licences beside data are not meant."""
    return [label for label, reason in report.skipped if reason == NO_KNOWN_FORMAT]
