"""Commands that look: `tail`, `history`, `sessions`, `status`."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from consumers.groups import groups
from consumers.registration import RESERVED
from eventlog.entry import Entry
from eventlog.ids import EntryId
from eventlog.log import EventLog
from eventlog.session import SessionStatus
from eventlog.settings import Settings
from eventlog.vocabulary import MessageType
from projections.projecting.projector import Projector
from projections.views.activity import Activity
from projections.views.history import History
from projections.views.sessions import Sessions
from service.cli.grouping import as_document, show_short
from service.cli.options import AsJson, CursorOption, Limit, examples, run, settings_of
from service.cli.output import (
    cell,
    clean,
    console,
    duration,
    moment,
    print_json,
    print_table,
    say,
)
from service.wiring import new_archiver, new_past


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        epilog=examples(
            "eventlog tail",
            "eventlog tail --from start --type tool.called",
            "eventlog tail --from start --json | head -100",
        )
    )(tail)
    app.command(
        epilog=examples(
            "eventlog history 'irc:#mediawiki' --limit 20",
            "eventlog history 'irc:#mediawiki' --sender Susan --first",
            "eventlog history a:1 --json",
        )
    )(history)
    app.command(epilog=examples("eventlog sessions --status active", "eventlog sessions --json"))(
        sessions
    )
    app.command(epilog=examples("eventlog status", "eventlog status --json"))(status)


def tail(
    context: typer.Context,
    conversation: Annotated[str | None, typer.Option(help="Only this conversation.")] = None,
    event_type: Annotated[str | None, typer.Option("--type", help="Only this type.")] = None,
    start: Annotated[
        str, typer.Option("--from", help="`now`, `start`, or a cursor printed by an earlier tail.")
    ] = "now",
    as_json: AsJson = False,
) -> None:
    """Follow the log until Ctrl-C, which prints the cursor to go on from."""
    run(_tail(settings_of(context), conversation, event_type, start, as_json=as_json))


async def _tail(
    settings: Settings,
    conversation: str | None,
    event_type: str | None,
    start: str,
    *,
    as_json: bool,
) -> None:
    async with EventLog.open(settings=settings) as log:
        following = await log.tail(None if start == "now" else start)
        try:
            async for entry in following:
                event = entry.event
                if conversation not in (None, event.conversation):
                    continue
                if event_type not in (None, event.type):
                    continue
                _print_entry(log, entry, as_json=as_json)
        finally:
            say(f"cursor: {following.cursor}", "dim")


def _print_entry(log: EventLog, entry: Entry, *, as_json: bool) -> None:
    event = entry.event
    if as_json:
        document = {"partition": entry.partition, "entry": str(entry.id)}
        print_json({**document, "event": msgspec.Raw(log.codec.encode(event))})
        return
    at = moment(event.occurred_at)
    told = (getattr(event, n, None) for n in ("text", "name", "to_status", "event_type", "reason"))
    text = next((value for value in told if value is not None), "")
    who = getattr(event, "sender", None) or event.session or ""
    console.print(
        f"{cell(at)}  {clean(event.type):<20}  {cell(event.conversation)}  {cell(who)}  {cell(text)}",
        markup=False,
        emoji=False,
        soft_wrap=True,
    )


def history(
    context: typer.Context,
    conversation: Annotated[str, typer.Argument(help="For example irc:#mediawiki.")],
    first: Annotated[bool, typer.Option("--first", help="Begin at the first message.")] = False,
    sender: Annotated[str | None, typer.Option(help="Only by this sender.")] = None,
    event_type: Annotated[
        str | None, typer.Option("--type", help="Only message.received, or only message.sent.")
    ] = None,
    message_type: Annotated[
        MessageType | None, typer.Option(help="Only messages of this kind.")
    ] = None,
    limit: Limit = 20,
    cursor: CursorOption = None,
    as_json: AsJson = False,
) -> None:
    """Show the last messages of a conversation, or the first, back into the archive; oldest first.

    A cursor goes on the way its line says, with its page's filter.
    """
    query = {"sender": sender, "event_type": event_type, "message_type": message_type}
    query |= {"cursor": cursor}
    work = _history(settings_of(context), conversation, limit, query, first=first, as_json=as_json)
    run(work)


async def _history(
    settings: Settings,
    conversation: str,
    limit: int,
    query: dict[str, Any],
    *,
    first: bool,
    as_json: bool,
) -> None:
    async with EventLog.open(settings=settings) as log:
        view = History(log, past=new_past(log))
        page = await (view.first if first else view.last)(conversation, limit, **query)
        while page.cursor and not page.entries:  # far to go to the next one that passes
            page = await view.page(page.cursor, limit)
        if as_json:
            encoded = [msgspec.Raw(log.codec.encode(entry.event)) for entry in page.entries]
            counts = {"earlier_count": page.earlier_count, "later_count": page.later_count}
            cursors = {"cursor": page.cursor, "older": page.older, "newer": page.newer}
            print_json({"messages": encoded, **cursors, **counts})
            return
    rows: list[tuple[Any, ...]] = []
    for entry in page.entries:
        event: Any = entry.event
        says = "←" if event.type == "message.received" else "→"
        rows.append((moment(event.occurred_at), says, event.sender or event.session, event.text))
    if not print_table(("time (UTC)", "", "sender", "text"), rows):
        say(f"no such messages in {conversation}", "yellow")
    _print_cursor(page.older, f"{page.earlier_count:,} earlier")
    if page.later_count:
        _print_cursor(page.newer, f"{page.later_count:,} later")


def sessions(
    context: typer.Context,
    status: Annotated[SessionStatus | None, typer.Option(help="Only of this status.")] = None,
    project: Annotated[str | None, typer.Option(help="Only this project.")] = None,
    conversation: Annotated[str | None, typer.Option(help="Only this conversation.")] = None,
    user: Annotated[str | None, typer.Option(help="Only this user.")] = None,
    limit: Limit = 20,
    cursor: CursorOption = None,
    as_json: AsJson = False,
) -> None:
    """List sessions, last active first, by at most one of the filters."""
    filters = {"status": status, "project": project, "conversation": conversation, "user": user}
    run(_sessions(settings_of(context), filters, limit, cursor, as_json=as_json))


async def _sessions(
    settings: Settings, filters: dict[str, Any], limit: int, cursor: str | None, *, as_json: bool
) -> None:
    async with EventLog.open(settings=settings) as log:
        page = await Sessions(log).list(**filters, limit=limit, cursor=cursor)
    if as_json:
        print_json({"sessions": page.items, "cursor": page.cursor})
        return
    rows = [
        (
            each.id,
            each.status,
            each.conversation,
            moment(each.started_at),
            duration(((each.ended_at or each.last_activity_at) - each.started_at) / 1e6),
            each.message_count,
            each.tool_call_count,
            each.tool_error_count,
        )
        for each in page.items
    ]
    columns = "session", "status", "conversation", "started (UTC)", "duration"
    spare = "messages", "tool errors", "started (UTC)", "conversation"
    if not print_table((*columns, "messages", "tool calls", "tool errors"), rows, spare=spare):
        say("no such sessions", "yellow")
    _print_cursor(page.cursor, "more")


def status(context: typer.Context, as_json: AsJson = False) -> None:
    """Show how far log, read models, archive and consumer groups are."""
    run(_status(settings_of(context), as_json=as_json))


async def _status(settings: Settings, *, as_json: bool) -> None:
    async with EventLog.open(settings=settings) as log:
        projecting = await Projector(log).status()
        archiving = await new_archiver(log).status()
        totals = await Activity(log).by_type()
        consuming = [each for each in await groups(log) if each.name not in RESERVED]
    if as_json:
        partitions = {"projector": _named(projecting), "archiver": _named(archiving)}
        documents = [as_document(each) for each in consuming]
        print_json({**partitions, "groups": documents, "events_by_type": totals})
        return
    rows = [
        (
            p.partition,
            p.head.n,
            p.lag_count,
            duration(p.oldest_age_ms / 1000),
            a.lag_count,
            duration(a.oldest_age_ms / 1000),
            p.owner,
        )
        for p, a in zip(projecting, archiving, strict=True)
    ]
    columns = "partition", "entries", "projector lag", "its oldest", "archiver lag", "its oldest"
    print_table((*columns, "projector"), rows)
    entries = sum(p.head.n for p in projecting)
    behind = sum(p.lag_count for p in projecting)
    unarchived = sum(a.lag_count for a in archiving)
    console.print(
        f"\n{entries:,} entries, {behind:,} not yet projected, {unarchived:,} not yet archived."
    )
    show_short(consuming)
    print_table(("type", "events"), sorted(totals.items(), key=lambda item: (-item[1], item[0])))
    if behind or unarchived:
        say("`eventlog up` projects and archives continuously.", "dim")


def _named(value: Any) -> Any:
    """Return what JSON has room for: tuples with names as objects, entry ids as their text."""
    if isinstance(value, EntryId):
        return str(value)
    if hasattr(value, "_asdict"):
        return {name: _named(each) for name, each in value._asdict().items()}
    return [_named(each) for each in value] if isinstance(value, list | tuple) else value


def _print_cursor(cursor: str | None, what: str) -> None:
    if cursor:
        say(f"{what}: --cursor {cursor}", "dim")
