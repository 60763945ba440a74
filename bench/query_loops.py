"""The reports as a plain Python loop over JSON lines, as one would write it without a database.

Each returns what the report's rows come to in one number, to be compared with theirs.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

DAY_US = 24 * 3600 * 1_000_000


def _events(lines: Path) -> Iterator[dict[str, Any]]:
    with lines.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def messages_per_day(lines: Path) -> int:
    """Return how many chats had how many days with messages."""
    counts: Counter[tuple[str, int]] = Counter()
    for event in _events(lines):
        if event["type"] in ("message.received", "message.sent"):
            counts[event["conversation"], event["occurred_at"] // DAY_US] += 1
    return len(counts)


def response_latency(lines: Path) -> int:
    """Return how many answers there were."""
    asked: dict[str, int] = {}
    waits: defaultdict[str, list[int]] = defaultdict(list)
    for event in _events(lines):
        session = event.get("session")
        if session is None:
            continue
        if event["type"] == "message.received":
            asked.setdefault(session, event["occurred_at"])
        elif event["type"] == "message.sent" and session in asked:
            wait_us = event["occurred_at"] - asked.pop(session)
            if wait_us >= 0:
                waits[session].append(wait_us)
    for found in waits.values():
        found.sort()
    return sum(map(len, waits.values()))


def sessions(lines: Path) -> int:
    """Return how many sessions there are."""
    status: dict[str, str] = {}
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for event in _events(lines):
        session = event.get("session")
        if session is None:
            continue
        first.setdefault(session, event["occurred_at"])
        last[session] = event["occurred_at"]
        if event["type"] == "session.started":
            status[session] = event.get("status", "active")
        elif event["type"] == "session.transitioned":
            status[session] = event["to_status"]
    durations = Counter(
        (status[session], (last[session] - first[session]) // 60_000_000) for session in status
    )
    return durations.total()


def tools(lines: Path) -> int:
    """Return how many calls there were."""
    called: defaultdict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    returned: defaultdict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for event in _events(lines):
        if event["type"] == "tool.called":
            called[event["session"], event["call"]].append(event)
        elif event["type"] == "tool.returned":
            returned[event["session"], event["call"]].append(event)
    calls: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    took: defaultdict[str, list[int]] = defaultdict(list)
    for key in called.keys() | returned.keys():
        for call, answer in zip_longest(called[key], returned[key]):
            name = (call or answer)["name"]
            calls[name] += 1
            if answer:
                errors[name] += answer.get("is_error", False)
            if call and answer:
                took[name].append(answer["occurred_at"] - call["occurred_at"])
    for found in took.values():
        found.sort()
    return calls.total()


def dead_letters(lines: Path) -> int:
    """Return how many letters there are."""
    letters: dict[str, tuple[str, str]] = {}
    for event in _events(lines):
        if event["type"] == "dead_letter.parked":
            letters[event["letter"]] = event["reason"], "parked"
        elif event["type"] == "dead_letter.resolved":
            letters[event["letter"]] = letters[event["letter"]][0], "resolved"
    return Counter(letters.values()).total()


def deliveries(lines: Path) -> int:
    """Return how many outbound messages there were."""
    status: dict[str, tuple[str, str]] = {}
    for event in _events(lines):
        if event["type"] in ("message.sent", "delivery.failed"):
            platform = event["conversation"].partition(":")[0]
            outcome = "sent" if event["type"] == "message.sent" else "failed"
            status[event.get("delivery") or event["id"]] = platform, outcome
    return Counter(status.values()).total()


def busiest_hours(lines: Path) -> int:
    """Return how many messages there were."""
    counts: Counter[int] = Counter()
    chats: defaultdict[int, set[str]] = defaultdict(set)
    for event in _events(lines):
        if event["type"] in ("message.received", "message.sent"):
            hour = event["occurred_at"] % DAY_US // 3_600_000_000
            counts[hour] += 1
            chats[hour].add(event["conversation"])
    return counts.total()


LOOPS: dict[str, tuple[Callable[[Path], int], str | None]] = {
    "messages-per-day": (messages_per_day, None),
    "response-latency": (response_latency, "answers"),
    "sessions": (sessions, "sessions"),
    "tools": (tools, "calls"),
    "dead-letters": (dead_letters, "letters"),
    "deliveries": (deliveries, "messages"),
    "busiest-hours": (busiest_hours, "messages"),
}
"""By report, with the column whose sum is the same; None where it is the number of rows."""
