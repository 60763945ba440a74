"""`eventlog doctor`: is everything well, and what to do where it is not."""

from __future__ import annotations

import typer

from eventlog.log import EventLog
from eventlog.settings import Settings
from service.checks import Finding, examine
from service.cli.options import AsJson, examples, run, settings_of
from service.cli.output import INCOMPLETE, OK, console, print_json, print_table

SIGNS = {"fine": "✓ fine", "look": "! look soon", "act": "✗ act now"}


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(
        epilog=examples(
            "eventlog doctor",
            "eventlog doctor --json",
            also="Exit code 3 when something needs attention.",
        )
    )
    def doctor(context: typer.Context, as_json: AsJson = False) -> None:
        """Check server, persistence, memory, clock, read models and archive."""
        findings = run(_examine(settings_of(context)))
        if as_json:
            print_json([finding._asdict() for finding in findings])
        else:
            _show(findings)
        well = all(finding.verdict == "fine" for finding in findings)
        raise typer.Exit(OK if well else INCOMPLETE)


async def _examine(settings: Settings) -> list[Finding]:
    async with EventLog.open(settings=settings) as log:
        return await examine(log)


def _show(findings: list[Finding]) -> None:
    worst = [finding for finding in findings if finding.verdict != "fine"]
    console.print(
        "All is well.\n" if not worst else f"{len(worst)} of {len(findings)} need a look.\n"
    )
    print_table(
        ("check", "verdict", "seen", "what to do"),
        [(f.check, SIGNS[f.verdict], f.seen, f.remedy) for f in findings],
    )
