"""`eventlog projections`: how the read models are, and what is done with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import typer

from eventlog.settings import Settings
from projections.projecting.projector import Projector
from projections.projecting.status import ModelStatus, PartitionStatus
from projections.projection import Projection
from projections.registry import load_projections
from service.cli import rebuilding, time_travel, verifying
from service.cli.options import AsJson, ByPartition, NamedProjections, examples, run, settings_of
from service.cli.output import clean, console, duration, print_json, print_table, say
from service.wiring import open_log


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        invoke_without_command=True,
        help="Show, rebuild, verify read models; what they were at some time.",
        epilog=examples("eventlog projections", "eventlog projections rebuild sessions"),
    )
    group.callback()(overview)
    for module in (rebuilding, verifying, time_travel):
        module.register(group)
    app.add_typer(group, name="projections")


def overview(
    context: typer.Context,
    by_partition: ByPartition = False,
    named: NamedProjections = None,
    as_json: AsJson = False,
) -> None:
    """Show version, lag, owner, rate and last error of the read models."""
    if context.invoked_subcommand is not None:
        return
    projections = load_projections(named or ())
    statuses = run(_status(settings_of(context), projections))
    if as_json:
        print_json({"partitions": [_named(status) for status in statuses]})
    elif by_partition:
        _show_partitions(statuses)
    else:
        _show_models(statuses)


async def _status(settings: Settings, projections: Sequence[Projection]) -> list[PartitionStatus]:
    async with open_log(settings, projections) as log:
        return await Projector(log, projections).status()


def _named(status: PartitionStatus) -> dict[str, Any]:
    return {
        **status._asdict(),
        "head": str(status.head),
        "models": [
            {
                **model._asdict(),
                "position": str(model.position),
                "building_position": model.building_position and str(model.building_position),
            }
            for model in status.models
        ],
    }


def _show_models(statuses: Sequence[PartitionStatus]) -> None:
    by_name: dict[str, list[ModelStatus]] = {}
    for status in statuses:
        for model in status.models:
            by_name.setdefault(model.name, []).append(model)
    entries = sum(status.head.n for status in statuses)
    rows = [
        (
            name,
            _versions(model.version for model in models),
            sum(model.lag_count for model in models),
            _building(models, statuses),
            _versions(model.previous_version for model in models),
        )
        for name, models in sorted(by_name.items())
    ]
    print_table(("projection", "serving", "lag", "building", "previous"), rows)
    oldest_ms = max((status.oldest_age_ms for status in statuses), default=0)
    owners = {status.owner for status in statuses if status.owner}
    rate = sum(status.rate_per_s for status in statuses)
    console.print(
        f"\n{entries:,} entries; the oldest not projected for {duration(oldest_ms / 1000)}; "
        f"{len(owners)} projector{'s' * (len(owners) != 1)}, {rate:,.0f} entries/s.",
        markup=False,
    )
    by_error: dict[str, list[str]] = {}
    for status in statuses:
        if status.last_error:
            by_error.setdefault(status.last_error, []).append(str(status.partition))
    for error, partitions in by_error.items():
        say(f"partition {', '.join(partitions)}: {clean(error)}", "yellow")
    if not owners:
        say("No projector runs: `eventlog up` starts one.", "dim")


def _show_partitions(statuses: Sequence[PartitionStatus]) -> None:
    rows = [
        (
            status.partition,
            status.head.n,
            status.lag_count,
            duration(status.oldest_age_ms / 1000),
            status.owner,
            status.rate_per_s,
            status.last_error,
        )
        for status in statuses
    ]
    total = (
        "all",
        sum(status.head.n for status in statuses),
        sum(status.lag_count for status in statuses),
        duration(max((status.oldest_age_ms for status in statuses), default=0) / 1000),
        None,
        sum(status.rate_per_s for status in statuses),
        None,
    )
    columns = "partition", "entries", "lag", "oldest", "owner", "entries/s", "last error"
    print_table(columns, [*rows, total], spare=("owner", "last error"))


def _versions(versions: Any) -> str | None:
    known = sorted({version for version in versions if version is not None})
    return ", ".join(map(str, known)) or None


def _building(models: Sequence[ModelStatus], statuses: Sequence[PartitionStatus]) -> str | None:
    version = _versions(model.building_version for model in models)
    if version is None:
        return None
    made = [
        (model.building_position.n, status.head.n)
        for status in statuses
        for model in status.models
        if model.building_position is not None and model.name == models[0].name
    ]
    done, total = (sum(column) for column in zip(*made, strict=True))
    return f"{version}: {done / total if total else 1:.0%}"
