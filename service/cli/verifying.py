"""`eventlog projections verify`: compares a read model with what the log says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from eventlog.errors import BuildMissing
from eventlog.settings import Settings
from projections.building.verifying import Difference, Verified, verify
from projections.projection import Projection
from projections.registry import find_projection, load_projections
from service.cli.building_bar import BuildBar
from service.cli.options import AsJson, ByPartition, NamedProjections, examples, run, settings_of
from service.cli.output import INCOMPLETE, OK, cell, console, print_json, print_table, say
from service.wiring import new_past, open_log


def register(group: typer.Typer) -> None:
    """Add the command."""
    group.command(
        "verify",
        epilog=examples(
            "eventlog projections verify",
            "eventlog projections verify sessions",
            also="Exit code 3 where a read model is not what the log says.",
        ),
    )(verify_models)


def verify_models(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="A projection; all if none.")] = None,
    by_partition: ByPartition = False,
    named: NamedProjections = None,
    as_json: AsJson = False,
) -> None:
    """Fold the log anew and compare, partition by partition; works while projectors do."""
    projections = load_projections(named or ())
    chosen = [find_projection(projections, name)] if name else projections
    outcomes, missing = run(_verify(settings_of(context), projections, chosen, quiet=as_json))
    if as_json:
        for outcome in outcomes:
            print_json(outcome._asdict())
    else:
        _show_outcomes(outcomes, by_partition=by_partition)
    for error in missing:
        say(error, "yellow")
    is_well = not missing and all(outcome.agrees for outcome in outcomes)
    raise typer.Exit(OK if is_well else INCOMPLETE)


async def _verify(
    settings: Settings,
    projections: Sequence[Projection],
    chosen: Sequence[Projection],
    *,
    quiet: bool,
) -> tuple[list[Verified], list[str]]:
    """Return the outcomes, and what there was nothing to compare of."""
    outcomes: list[Verified] = []
    missing: list[str] = []
    async with open_log(settings, projections) as log:
        total = len(chosen) * log.partition_count
        with BuildBar("verifying", quiet=quiet) as bar:
            for projection in chosen:
                try:
                    async for outcome in verify(log, projection, past=new_past(log)):
                        outcomes.append(outcome)
                        bar.tell(f"verifying {projection.model}", len(outcomes), total)
                except BuildMissing as error:
                    missing.append(str(error))
    return outcomes, missing


def _show_outcomes(outcomes: Sequence[Verified], *, by_partition: bool) -> None:
    if by_partition:
        rows: list[tuple[Any, ...]] = [
            (o.model, o.partition, o.position.n, o.name_count, o.stored_digest, _verdict([o]))
            for o in outcomes
        ]
        columns = "model", "partition", "position", "compared", "digest", "verdict"
        print_table(columns, rows, spare=("digest", "compared"))
    else:
        by_model: dict[str, list[Verified]] = {}
        for outcome in outcomes:
            by_model.setdefault(outcome.model, []).append(outcome)
        rows = [
            (
                model,
                sum(o.position.n for o in mine),
                sum(o.name_count for o in mine),
                _verdict(mine),
            )
            for model, mine in by_model.items()
        ]
        print_table(("model", "entries", "compared", "verdict"), rows)
    for outcome in outcomes:
        if outcome.difference is not None:
            _show_difference(outcome, outcome.difference)
    wrong = sorted({outcome.model for outcome in outcomes if not outcome.agrees})
    if wrong:
        names = ", ".join(f"`eventlog projections rebuild {m.partition('@')[0]}`" for m in wrong)
        say(f"to mend it: {names}", "yellow")


def _verdict(outcomes: Sequence[Verified]) -> str:
    wrong = [str(outcome.partition) for outcome in outcomes if not outcome.agrees]
    return f"✗ differs in partition {', '.join(wrong)}" if wrong else "✓ the fold of the log"


def _show_difference(outcome: Verified, difference: Difference) -> None:
    touched = difference.touched
    last = ", ".join(f"{outcome.partition}/{entry_id}" for entry_id in touched.last[-5:])
    console.print(
        f"\n{outcome.model}, partition {outcome.partition}: "
        f"{difference.kind} {cell(difference.name)}, first at key {cell(difference.key)}\n"
        f"  stored  {cell(difference.stored)}\n"
        f"  folded  {cell(difference.folded)}\n"
        f"  touched by {touched.entry_count:,} entries, the last {last or 'none'}",
        markup=False,
        emoji=False,
        soft_wrap=True,
    )
