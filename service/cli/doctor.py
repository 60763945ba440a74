"""`eventlog doctor`: is everything well, and what to do where it is not."""

from __future__ import annotations

import typer

from eventlog.errors import (
    ConfigurationError,
    EventLogError,
    UnsafeEviction,
    UnsupportedServer,
)
from eventlog.log import EventLog
from eventlog.settings import Settings
from service.checks import examine, examine_without
from service.cli.options import AsJson, examples, run, settings_of
from service.cli.output import INCOMPLETE, OK, console, print_json, print_table
from service.judging import Finding

SIGNS = {"fine": "✓ fine", "look": "! look soon", "act": "✗ act now"}


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(
        epilog=examples(
            "eventlog doctor",
            "eventlog doctor --json",
            also="Exit codes: 0 all is well, 3 something needs attention, 1 the log cannot be opened;"
            " what can be looked at without it is shown all the same.",
        )
    )
    def doctor(context: typer.Context, as_json: AsJson = False) -> None:
        """Check server, durability, memory, clock, rights, spool, workers, read models and archive."""
        findings, error = run(_examine(settings_of(context)))
        if as_json:
            print_json([finding._asdict() for finding in findings])
        else:
            _show(findings)
        if error is not None:
            raise error
        well = all(finding.verdict == "fine" for finding in findings)
        raise typer.Exit(OK if well else INCOMPLETE)


async def _examine(settings: Settings) -> tuple[list[Finding], EventLogError | None]:
    """Return the findings, and why there are no more of them where the log could not be opened."""
    try:
        async with EventLog.open(settings=settings) as log:
            await log.heads()  # one that was opened on its spool says here why the server is away
            return await examine(log), None
    except EventLogError as error:
        is_of_server = isinstance(error, UnsupportedServer | UnsafeEviction)
        if isinstance(error, ConfigurationError) and not is_of_server:
            raise
        return await examine_without(settings, error), error


def _show(findings: list[Finding]) -> None:
    worst = [finding for finding in findings if finding.verdict != "fine"]
    console.print(
        "All is well.\n" if not worst else f"{len(worst)} of {len(findings)} need a look.\n"
    )
    print_table(
        ("check", "verdict", "seen", "what to do"),
        [(f.check, SIGNS[f.verdict], f.seen, f.remedy) for f in findings],
    )
