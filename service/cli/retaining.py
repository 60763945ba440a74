"""`eventlog retention`: what may leave the log, what may not and why, and letting it go."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from analytics.retention import PartitionPlan, Plan
from analytics.trimmer import Applied
from eventlog.log import EventLog
from eventlog.settings import Settings, change_settings
from service.cli.options import AsJson, examples, is_bare, run, settings_of
from service.cli.output import (
    INCOMPLETE,
    OK,
    duration,
    many,
    moment,
    print_json,
    print_table,
    say,
)
from service.pinning import size, words_of
from service.wiring import new_retention

Age = Annotated[
    int | None, typer.Option("--age-s", min=1, help="In place of the setting retention_age_s.")
]
MaxEntries = Annotated[
    int | None,
    typer.Option("--max-entries", min=0, help="In place of retention_max_entries."),
]
MemoryBytes = Annotated[
    int | None,
    typer.Option("--memory-bytes", min=0, help="In place of retention_memory_bytes."),
]
_CODES = "Exit code 3 when somebody holds back what is to go."


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        invoke_without_command=True,
        help="Show what may leave the log and who holds the rest back; let it go.",
        epilog=examples("eventlog retention", "eventlog retention apply --age-s 3600"),
    )
    group.callback()(overview)
    group.command("plan", epilog=examples("eventlog retention plan --age-s 3600", also=_CODES))(
        plan
    )
    group.command("apply", epilog=examples("eventlog retention apply", also=_CODES))(apply)
    app.add_typer(group, name="retention")


def overview(context: typer.Context, as_json: AsJson = False) -> None:
    """Show what would be trimmed, what that frees, and who holds back what is to go."""
    if is_bare(context):
        plan(context, as_json=as_json)


def plan(
    context: typer.Context,
    age_s: Age = None,
    max_entries: MaxEntries = None,
    memory_bytes: MemoryBytes = None,
    as_json: AsJson = False,
) -> None:
    """Show what would be trimmed, what that frees, and who holds back what is to go."""
    settings = _chosen(context, age_s, max_entries, memory_bytes)
    found = run(_plan(settings))
    if as_json:
        print_json(as_document(found))
    else:
        _show(found)
        _tell(found)
    raise typer.Exit(INCOMPLETE if found.held_count else OK)


def apply(
    context: typer.Context,
    age_s: Age = None,
    max_entries: MaxEntries = None,
    memory_bytes: MemoryBytes = None,
    as_json: AsJson = False,
) -> None:
    """Trim what is old or too much, archived, and read by everybody. `eventlog up` does so by itself.

    What is trimmed is answered from the archive from then on.
    """
    settings = _chosen(context, age_s, max_entries, memory_bytes)
    applied = run(_apply(settings))
    if as_json:
        trimmed = {str(partition): count for partition, count in applied.trimmed.items()}
        print_json({"trimmed": trimmed, "plan": as_document(applied.plan)})
    else:
        say(f"{many(applied.trimmed_count, 'entry', 'entries')} trimmed", "green")
        _tell(applied.plan)
    raise typer.Exit(INCOMPLETE if applied.plan.held_count else OK)


def _chosen(
    context: typer.Context, age_s: int | None, max_entries: int | None, memory_bytes: int | None
) -> Settings:
    return change_settings(
        settings_of(context),
        retention_age_s=age_s,
        retention_max_entries=max_entries,
        retention_memory_bytes=memory_bytes,
    )


async def _plan(settings: Settings) -> Plan:
    async with EventLog.open(settings=settings) as log:
        return await new_retention(log).plan()


async def _apply(settings: Settings) -> Applied:
    async with EventLog.open(settings=settings) as log:
        return await new_retention(log).apply()


def as_document(found: Plan) -> dict[str, Any]:
    """Return a plan as JSON has it."""
    return {
        "policy": found.policy._asdict(),
        "goes_count": found.goes_count,
        "frees_bytes": found.frees_bytes,
        "held_count": found.held_count,
        "stream_bytes": found.stream_bytes,
        "over_budget_bytes": found.over_bytes,
        "held_by": [
            {
                "kind": held.pin.kind,
                "name": held.pin.name,
                "entry_count": held.entry_count,
                "stream_bytes": held.stream_bytes,
                "since_ms": held.since_ms,
            }
            for held in found.holders
        ],
        "partitions": [_partition(each) for each in found.partitions],
    }


def _partition(each: PartitionPlan) -> dict[str, Any]:
    return {
        "partition": each.facts.partition,
        "first_n": each.facts.first_n,
        "last_n": each.facts.last_n,
        "stream_bytes": each.facts.stream_bytes,
        "keep_n": each.keep_n,
        "goes_count": each.goes_count,
        "frees_bytes": each.frees_bytes,
        "held_count": each.held_count,
        "pins": [
            {"kind": pin.kind, "name": pin.name, "needs_n": pin.needs.n} for pin in each.facts.pins
        ],
    }


def _show(found: Plan) -> None:
    rows = [
        (
            each.facts.partition,
            each.facts.entry_count,
            size(each.facts.stream_bytes),
            each.goes_count,
            size(each.frees_bytes),
            each.held_count,
            _holder(each),
        )
        for each in found.partitions
    ]
    total = (
        "all",
        sum(each.facts.entry_count for each in found.partitions),
        size(found.stream_bytes),
        found.goes_count,
        size(found.frees_bytes),
        found.held_count,
        None,
    )
    columns = "partition", "entries", "memory", "may go", "frees", "held back", "by"
    print_table(columns, [*rows, total], spare=("by", "memory"))


def _holder(each: PartitionPlan) -> str | None:
    """Return who stands lowest of those that hold anything back."""
    if not each.held:
        return None
    return words_of(min(each.held, key=lambda held: held.pin.needs.n).pin).who


def _tell(found: Plan) -> None:
    """Say who holds entries back, since when, and what to do."""
    policy = found.policy
    if not found.held_count:
        kept = [f"what is younger than {duration(policy.age_ms / 1000)}"]
        if policy.max_entries is not None:
            kept.append(f"at most {many(policy.max_entries, 'entry', 'entries')}")
        if policy.memory_bytes is not None:
            kept.append(f"at most {size(policy.memory_bytes)}")
        say(f"nobody holds anything back; the log keeps {', '.join(kept)}", "dim")
        return
    if found.over_bytes:
        say(f"the log takes {size(found.over_bytes)} more than it may", "red")
    for held in found.holders:
        who, remedy = words_of(held.pin)
        since = "" if held.since_ms is None else f", from {_moment(held.since_ms)} on"
        say(
            f"{who} holds back {many(held.entry_count, 'entry', 'entries')},"
            f" {size(held.stream_bytes)}{since}. {remedy}",
            "yellow",
        )


def _moment(ms: int) -> str:
    return f"{moment(ms * 1000):%Y-%m-%d %H:%M}"
