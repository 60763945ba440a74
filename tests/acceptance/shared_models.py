"""What the read models say of the shared data set, in the words of `shared_counts`."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from eventlog.log import EventLog
from projections.reading.live import Consistency
from projections.views.activity import Activity
from projections.views.dead_letters import DeadLetter, DeadLetters
from projections.views.history import History
from projections.views.sessions import Session, Sessions

PAGE = 500


class ReadOut(NamedTuple):
    """Everything the read models have of the data set."""

    counts: dict[str, int]
    """The table of `shared_counts.in_read_models`."""
    messages: dict[str, int]
    """By conversation."""
    last: dict[str, list[str]]
    """By conversation: ids of its last messages."""
    labels: dict[str, int]
    sessions: dict[str, Session]
    letters: dict[str, DeadLetter]
    reasons: dict[str, int]


async def read_out(log: EventLog, conversations: set[str], consistency: Consistency) -> ReadOut:
    history = History(log)
    messages = {c: await history.count(c, consistency=consistency) for c in sorted(conversations)}
    last = {
        c: [e.event.id for e in (await history.last(c, 20, consistency=consistency)).entries]
        for c in sorted(conversations)
    }
    labels = await Activity(log).totals(consistency=consistency)
    sessions = {s.id: s async for s in pages(Sessions(log).list, consistency)}
    letters = {k.letter: k async for k in pages(DeadLetters(log).list, consistency)}
    reasons = await DeadLetters(log).counts_by_reason(consistency=consistency)
    counts = Counter(_history(messages)) + Counter(_activity(labels)) + _sessions(sessions)
    counts["dead letters parked"] = sum(reasons.values())
    return ReadOut(dict(counts), messages, last, labels, sessions, letters, reasons)


async def pages(query: Any, consistency: Consistency) -> AsyncIterator[Any]:
    cursor = None
    while True:
        page = await query(limit=PAGE, cursor=cursor, consistency=consistency)
        for item in page.items:
            yield item
        cursor = page.cursor
        if cursor is None:
            return


def _history(messages: dict[str, int]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for conversation, n in messages.items():
        source = conversation.split(":")[0]
        if source == "irc":
            source = "irc-ubuntu" if conversation == "irc:#ubuntu" else "irc-new-domains"
        counts[f"history {source}"] += n
    return counts


def _activity(labels: dict[str, int]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for label, n in labels.items():
        event_type, _, sort = label.partition(":")
        if event_type.startswith("message."):
            counts[f"activity {sort}"] += n
        elif sort.startswith("irc."):
            counts["activity irc.*"] += n
        elif sort == "bounce.received":
            counts[f"activity {sort}"] += n
        elif event_type in ("delivery.failed", "dead_letter.parked", "tool.called"):
            counts[f"activity {event_type}"] += n
    return counts


def _sessions(sessions: dict[str, Session]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for session in sessions.values():
        source = session.conversation.split(":")[0]
        counts[f"{source} {session.status}"] += 1
        counts[f"tool calls {source}"] += session.tool_call_count
        if source != "openhands":  # its errors are not among the independent counts
            counts[f"tool errors {source}"] += session.tool_error_count
    return counts
