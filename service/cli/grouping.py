"""`eventlog groups`: who reads the log, how far they are, and taking out who is gone for good."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer

from consumers.group_status import GroupStatus
from consumers.groups import groups, retire
from consumers.registration import RESERVED
from eventlog.log import EventLog
from eventlog.settings import Settings
from service.cli.asking import confirm
from service.cli.options import AsJson, ByPartition, Yes, examples, is_bare, run, settings_of
from service.cli.output import duration, many, print_json, print_table, say


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        invoke_without_command=True,
        help="Show consumer groups and how far they are; retire one.",
        epilog=examples("eventlog groups", "eventlog groups retire greeter --reason 'bot is gone'"),
    )
    group.callback()(overview)
    group.command("list", epilog=examples("eventlog groups list --partitions"))(list_all)
    group.command(
        "retire", epilog=examples("eventlog groups retire greeter --reason 'the bot is gone'")
    )(retire_one)
    app.add_typer(group, name="groups")


def overview(
    context: typer.Context, by_partition: ByPartition = False, as_json: AsJson = False
) -> None:
    """Show every consumer group: its lag, what it has in hand, what waits, and its workers."""
    if is_bare(context):
        list_all(context, by_partition, as_json)


def list_all(
    context: typer.Context, by_partition: ByPartition = False, as_json: AsJson = False
) -> None:
    """Show every consumer group: its lag, what it has in hand, what waits, and its workers.

    Lag counts the entries that are not done with. In hand are those delivered to a worker, waiting
    those of a conversation that is blocked by an entry to be tried again.
    """
    found = run(_groups(settings_of(context)))
    if as_json:
        print_json({"groups": [as_document(each) for each in found]})
        return
    if by_partition:
        _show_partitions(found)
    else:
        _show(found)
    for each in found:
        _warn(each)


async def _groups(settings: Settings) -> list[GroupStatus]:
    async with EventLog.open(settings=settings) as log:
        return await groups(log)


def as_document(status: GroupStatus) -> dict[str, Any]:
    """Return a group's status as JSON has it."""
    return {
        "name": status.name,
        "built_in": status.name in RESERVED,
        "lag_count": status.lag_count,
        "in_hand_count": _in_hand(status),
        "waiting_count": _waiting(status),
        "blocked_count": status.blocked_count,
        "oldest_age_ms": status.oldest_age_ms,
        "workers": status.members,
        "partitions": [
            {
                **each._asdict(),
                "head": str(each.head),
                "delivered": str(each.delivered),
                "lag_count": each.lag_count,
            }
            for each in status.partitions
        ],
    }


def show_short(statuses: Iterable[GroupStatus]) -> None:
    """Print a line for each group."""
    rows = [
        (each.name, each.lag_count, _oldest(each), each.blocked_count, len(each.members))
        for each in statuses
    ]
    if rows:
        print_table(("group", "lag", "its oldest", "blocked conversations", "workers"), rows)


def _show(statuses: Sequence[GroupStatus]) -> None:
    rows = [
        (
            each.name,
            "built in" if each.name in RESERVED else "yours",
            each.lag_count,
            _in_hand(each),
            _waiting(each),
            each.blocked_count,
            _oldest(each),
            len(each.members),
        )
        for each in statuses
    ]
    columns = "group", "kind", "lag", "in hand", "waiting", "blocked", "oldest", "workers"
    if not print_table(columns, rows, spare=("kind", "in hand")):
        say("no consumer groups yet: `eventlog worker` or `eventlog up` registers one", "yellow")


def _show_partitions(statuses: Sequence[GroupStatus]) -> None:
    rows = [
        (
            status.name,
            each.partition,
            each.head.n,
            each.lag_count,
            each.in_hand_count + each.foreign_count,
            each.waiting_count,
            each.blocked_count,
            duration(each.oldest_age_ms / 1000) if each.lag_count else None,
            each.owner,
        )
        for status in statuses
        for each in status.partitions
    ]
    columns = "group", "partition", "entries", "lag", "in hand", "waiting", "blocked", "oldest"
    print_table((*columns, "owner"), rows, spare=("owner", "in hand", "entries"))


def _warn(status: GroupStatus) -> None:
    if status.members or not status.lag_count:
        return
    if status.name in RESERVED:
        say(f"no {status.name} runs: `eventlog up` starts one", "dim")
        return
    say(
        f"nobody works for {status.name!r}: what it has not handled is kept in memory for it. Start"
        f" its worker, or give it up: `eventlog groups retire {status.name} --reason …`",
        "yellow",
    )


def _in_hand(status: GroupStatus) -> int:
    return sum(each.in_hand_count + each.foreign_count for each in status.partitions)


def _waiting(status: GroupStatus) -> int:
    return sum(each.waiting_count for each in status.partitions)


def _oldest(status: GroupStatus) -> str | None:
    return duration(status.oldest_age_ms / 1000) if status.lag_count else None


# --- retiring


def retire_one(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A group: `eventlog groups` lists them.")],
    reason: Annotated[str, typer.Option(help="Why: it is recorded in the log.")],
    yes: Yes = False,
) -> None:
    """Remove a consumer group for good, with all that is stored of it.

    What it has not handled is nobody's any more, and no longer held back for it: it is trimmed when
    retention says so, and stays in the archive. Its parked letters stay.
    """
    run(_retire(settings_of(context), name, reason, yes=yes))


async def _retire(settings: Settings, name: str, reason: str, *, yes: bool) -> None:
    async with EventLog.open(settings=settings) as log:
        known = {each.name: each for each in await groups(log)}
        if name in known and name not in RESERVED and not known[name].members and reason.strip():
            confirm(_question(known[name]), yes=yes)
        status = await retire(log, name, reason)
    say(f"{name} is retired; it left {_entries(status.lag_count)} unhandled", "green")
    say(
        "a worker of that name begins at the first entry again, with `--from now` at the end", "dim"
    )


def _question(status: GroupStatus) -> str:
    if not status.lag_count:
        return f"Retire {status.name!r}? It has handled everything."
    delivered = f", {status.pending_count:,} of them delivered" if status.pending_count else ""
    return (
        f"Retire {status.name!r}? It leaves {_entries(status.lag_count)} unhandled{delivered}, the"
        f" oldest {duration(status.oldest_age_ms / 1000)} old."
    )


def _entries(count: int) -> str:
    return many(count, "entry", "entries")
