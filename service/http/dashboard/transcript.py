"""What was said and done, as a chat shows it: messages, tool calls with what came of them, changes.

It comes from entries that are hot, and from rows of the warehouse for what only the archive tells
apart; both become the same items. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from eventlog.entry import Entry
from eventlog.vocabulary import (
    MessageReceived,
    MessageSent,
    SessionStarted,
    SessionTransitioned,
    ToolCalled,
    ToolReturned,
)

LONGEST_SHOWN = 20_000
"""Characters of one text; the log has the rest."""

LONGEST_BRIEF = 200

Outcome = Literal["running", "done", "error", "interrupted"]


class Item(msgspec.Struct):
    """One line of the chat. Times are µs UTC."""

    n: int
    """The entry's sequence: names it on its page."""
    at: int
    kind: Literal["in", "out", "tool", "change"]
    who: str = ""
    """Of a message its sender, of a tool its name."""
    text: str = ""
    """Of a message what was said, of a tool its arguments, of a change what it was."""
    brief: str = ""
    """Of a tool's arguments what says most, in one line."""
    call: str = ""
    outcome: Outcome = "running"
    result: str = ""
    duration_ms: int | None = None
    attachments: Sequence[tuple[str, str]] = ()
    """Address and name of each."""
    is_missed: bool = False


class Happening(msgspec.Struct, frozen=True):
    """An event, wherever it was read."""

    n: int
    at: int
    type: str
    sender: str | None = None
    text: str | None = None
    call: str | None = None
    name: str | None = None
    arguments: str | None = None
    result: str | None = None
    is_error: bool = False
    duration_ms: int | None = None
    to_status: str | None = None
    reason: str | None = None
    attachments: Sequence[tuple[str, str]] = ()


COLUMNS = (
    "sequence", "occurred_at", "type", "sender", "text", "call", "name", "arguments", "result",
    "is_error", "duration_ms", "to_status", "reason",
)  # fmt: skip
"""Of the view `events`: what a row needs to become a Happening."""

TYPES = tuple(
    str(each.__struct_config__.tag)
    for each in (
        MessageReceived,
        MessageSent,
        ToolCalled,
        ToolReturned,
        SessionStarted,
        SessionTransitioned,
    )
)


def of_entry(entry: Entry) -> Happening:
    """Return what an entry says."""
    event: Any = entry.event
    told = {
        name: getattr(event, name, None)
        for name in (
            "sender",
            "text",
            "call",
            "name",
            "arguments",
            "result",
            "duration_ms",
            "reason",
        )
    }
    status = getattr(event, "to_status", None) or getattr(event, "status", None)
    attached = tuple(
        (each.url, each.name or each.url) for each in getattr(event, "attachments", ())
    )
    return Happening(
        entry.sequence,
        event.occurred_at,
        event.type,
        **told,
        is_error=bool(getattr(event, "is_error", False)),
        to_status=status,
        attachments=attached,
    )


def of_row(row: Mapping[str, Any]) -> Happening:
    """Return what a row of the view `events` says."""
    at = row["occurred_at"]
    us = int(at.replace(tzinfo=UTC).timestamp() * 1_000_000) if isinstance(at, datetime) else 0
    told = {name: row[name] for name in COLUMNS[3:] if name != "is_error"}
    return Happening(row["sequence"], us, row["type"], **told, is_error=bool(row["is_error"]))


def items_of(happened: Iterable[Happening], *, has_ended: bool = False) -> list[Item]:
    """Return the chat: each tool where it was called, with what came of it."""
    items: list[Item] = []
    running: dict[str, Item] = {}
    for each in happened:
        match each.type:
            case "message.received" | "message.sent":
                kind: Literal["in", "out"] = "in" if each.type == "message.received" else "out"
                who = each.sender or ("user" if kind == "in" else "agent")
                items.append(
                    Item(each.n, each.at, kind, who, _cut(each.text), attachments=each.attachments)
                )
            case "tool.called":
                item = Item(
                    each.n,
                    each.at,
                    "tool",
                    each.name or "tool",
                    _cut(each.arguments),
                    brief_of(each.arguments),
                    each.call or "",
                    "interrupted" if has_ended else "running",
                )
                running[item.call] = item
                items.append(item)
            case "tool.returned":
                found = running.pop(each.call or "", None)
                if found is None:  # called on the page before
                    found = Item(each.n, each.at, "tool", each.name or "tool", call=each.call or "")
                    items.append(found)
                found.outcome = "error" if each.is_error else "done"
                found.result = _cut(each.result)
                found.duration_ms = each.duration_ms
                if found.duration_ms is None and found.n != each.n:
                    found.duration_ms = max(0, each.at - found.at) // 1000
            case _ if said := change_words(each):
                items.append(Item(each.n, each.at, "change", text=said))
    return items


def change_words(each: Happening) -> str:
    """Return what a session's change is called; empty for what is none."""
    if each.type == "session.started":
        return "session started"
    if each.type != "session.transitioned" or each.to_status is None:
        return ""
    words = {
        "active": "session goes on",
        "dormant": "session sleeps",
        "completed": "session completed",
        "failed": "session failed",
        "pending": "session waits for its agent",
    }
    why = f": {each.reason}" if each.reason else ""
    return words.get(each.to_status, f"session is {each.to_status}") + why


_TELLING = ("path", "file_path", "filePath", "command", "cmd", "query", "pattern", "url", "thought")


def brief_of(arguments: str | None) -> str:
    """Return what says most of a tool's arguments, in one line.

    >>> brief_of('{"timeout": 5, "command": "pytest -q"}')
    'pytest -q'
    """
    text = arguments or ""
    try:
        given = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        given = None
    if isinstance(given, dict):
        values = [given[name] for name in _TELLING if isinstance(given.get(name), str)]
        values = values or [value for value in given.values() if isinstance(value, str)]
        text = values[0] if values else text
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_BRIEF else f"{line[: LONGEST_BRIEF - 1]}…"


def _cut(text: str | None) -> str:
    if text is None or len(text) <= LONGEST_SHOWN:
        return text or ""
    left = len(text) - LONGEST_SHOWN
    return f"{text[:LONGEST_SHOWN]}\n… {left:,} more characters are in the log"
