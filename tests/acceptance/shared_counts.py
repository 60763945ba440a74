"""What the shared data set holds, by an independent parser's COUNTS.json, in comparable tables.

`by_label` is what an import's report must say, `in_log` what the log (or SQL over it) must hold;
`count_events` is the second table from a list of events, and shows how each number is found.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from eventlog.event import Event
from eventlog.vocabulary import BridgeEvent, DeliveryFailed, Message, ToolCalled, ToolReturned

Counts = dict[str, int]


def load(data: Path) -> dict[str, Any]:
    counts: dict[str, Any] = json.loads((data / "COUNTS.json").read_text(encoding="utf-8"))
    return counts


def by_label(counts: dict[str, Any]) -> dict[str, Counts]:
    """Label of a file, or the start of several labels (ending in `/`) → count by kind."""
    table: dict[str, Counts] = {}
    for folder in ("irc-ubuntu", "irc-new-domains", "agent-claude-code"):
        for file, kinds in counts[folder]["per_file"].items():
            table[f"{folder}/{file}"] = flatten(kinds)
    for session in counts["agent-openhands"]:
        table[f"agent-openhands/output.jsonl#{session['instance']}"] = flatten(session)
    table["agent-tau-bench/gpt-4o-airline.json"] = flatten(counts["agent-tau-bench"])
    # truth_* are another parser's verdicts on the same mails, not counts of what an import sees.
    table["bounces/"] = {
        k: n for k, n in flatten(counts["bounces"]).items() if not k.startswith("truth")
    }
    return table


def flatten(kinds: dict[str, Any], prefix: str = "") -> Counts:
    """Nested counts as `records.user`; zeros and what is no number left out."""
    flat: Counts = {}
    for kind, value in kinds.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{kind}.")
        elif isinstance(value, int) and value:
            flat[prefix + kind] = value
    return flat


def in_log(counts: dict[str, Any]) -> Counts:
    """Name → how many the log must hold, over all of a source's files."""
    table: Counts = {}
    for folder in ("irc-ubuntu", "irc-new-domains"):
        total = counts[folder]["total"]
        table |= {f"{folder} {kind}": n for kind, n in total.items() if kind != "clock_rollovers"}
    claude: Counter[str] = Counter()
    for kinds in counts["agent-claude-code"]["per_file"].values():
        claude.update(flatten(kinds))
    for kind, n in claude.items():
        if kind not in ("order_inversions", "records.no_timestamp"):
            table[f"agent-claude-code {kind}"] = n
    for session in counts["agent-openhands"]:
        name = f"agent-openhands {session['instance']}"
        table |= {f"{name} {k}": n for k, n in flatten(session).items() if k != "events"}
    tau = flatten(counts["agent-tau-bench"])
    del tau["null_content"]
    table |= {f"agent-tau-bench {kind}": n for kind, n in tau.items()}
    bounces = by_label(counts)["bounces/"]
    table |= {f"bounces {kind}": n for kind, n in bounces.items()}
    return table


def count_events(events: Iterable[Event]) -> Counts:
    """The table of `in_log`, counted from events."""
    table: Counter[str] = Counter()
    records: set[tuple[str, str]] = set()
    for event in events:
        source = event.conversation.split(":")[0]
        if source == "irc":
            table[_irc(event)] += 1
        elif source in ("claude-code", "openhands", "tau-bench"):
            table.update(_session_event(source, event))
            if event.correlation_id:
                records.add((event.conversation, event.correlation_id))
        elif isinstance(event, BridgeEvent) and event.event_type == "bounce.received":
            table.update(["bounces mails"] + ["bounces mails_with_dsn"] * event.data["has_dsn"])
        elif isinstance(event, DeliveryFailed):
            table["bounces action_failed" if event.permanent else "bounces action_delayed"] += 1
    table.update(_record(conversation, record) for conversation, record in records)
    return dict(table)


def _irc(event: Event) -> str:
    folder = "irc-ubuntu" if event.conversation == "irc:#ubuntu" else "irc-new-domains"
    if isinstance(event, Message):
        kind = "message" if event.message_type == "text" else event.message_type
        return f"{folder} {kind}"
    assert isinstance(event, BridgeEvent)
    is_other = folder == "irc-new-domains" or event.event_type == "irc.other"
    return f"{folder} {'other' if is_other else 'system'}"


def _session_event(source: str, event: Event) -> list[str]:
    if source == "tau-bench":
        if isinstance(event, ToolCalled):
            return ["agent-tau-bench tool_calls"]
        if isinstance(event, ToolReturned):
            return ["agent-tau-bench tool_errors"] * event.is_error
        if event.type == "session.started":
            return ["agent-tau-bench sessions"]
        completed = getattr(event, "to_status", None) == "completed"
        return ["agent-tau-bench reward1"] * completed
    if source == "claude-code":
        if isinstance(event, ToolCalled):
            return ["agent-claude-code tool_use"]
        if isinstance(event, ToolReturned):
            kinds = ["agent-claude-code tool_result"]
            return kinds + ["agent-claude-code tool_error"] * event.is_error
        if isinstance(event, Message) and event.metadata.get("block") == "text":
            return ["agent-claude-code text_blocks"]
    return []


def _record(conversation: str, record: str) -> str:
    """A record's events share the correlation id `<kind>:<id>`."""
    source, _, rest = conversation.partition(":")
    kind, _, _ = record.rpartition(":")
    match source:
        case "openhands":
            return f"agent-openhands {rest.split(':')[0]} by.{kind}"
        case "claude-code":
            return f"agent-claude-code records.{kind}"
        case _:
            return f"agent-tau-bench roles.{kind}"


def in_read_models(counts: dict[str, Any], data: Path) -> Counts:
    """Name → how many the read models must show."""
    ubuntu, domains = counts["irc-ubuntu"]["total"], counts["irc-new-domains"]["total"]
    tau, bounces = counts["agent-tau-bench"], counts["bounces"]
    hands = [session["by"] for session in counts["agent-openhands"]]
    finished = sum(by.get("action:finish", 0) for by in hands)
    failed = sum(session["error"] is not None for session in counts["agent-openhands"])
    claude: Counter[str] = Counter()
    for kinds in counts["agent-claude-code"]["per_file"].values():
        claude.update(flatten(kinds))
    messages = {
        "irc-ubuntu": spoken(ubuntu),
        "irc-new-domains": spoken(domains),
        "claude-code": claude["text_blocks"] + plain_user_records(data / "agent-claude-code"),
        "openhands": sum(by["action:message"] for by in hands) + finished,
        "tau-bench": tau["roles"]["user"] + tau["roles"]["assistant"] - tau["null_content"],
    }
    actions, notices = ubuntu["action"] + domains["action"], ubuntu["notice"] + domains["notice"]
    tools = {
        "claude-code": claude["tool_use"],
        "openhands": sum(by.get(f"action:{name}", 0) for by in hands for name in _HANDS_TOOLS),
        "tau-bench": tau["tool_calls"],
    }
    return {
        **{f"history {source}": n for source, n in messages.items()},
        "activity action": actions,
        "activity notice": notices,
        "activity response": finished,
        "activity text": sum(messages.values()) - actions - notices - finished,
        "activity irc.*": ubuntu["system"] + ubuntu["other"] + domains["other"],
        "activity bounce.received": bounces["mails"],
        "activity delivery.failed": bounces["action_failed"] + bounces["action_delayed"],
        "activity dead_letter.parked": bounces["action_failed"],
        "activity tool.called": sum(tools.values()),
        **{f"tool calls {source}": n for source, n in tools.items()},
        "tool errors claude-code": claude["tool_error"],
        "tool errors tau-bench": tau["tool_errors"],
        "claude-code active": counts["agent-claude-code"]["files"],
        "openhands completed": len(hands) - failed,
        "openhands failed": failed,
        "tau-bench completed": tau["reward1"],
        "tau-bench failed": tau["sessions"] - tau["reward1"],
        "dead letters parked": bounces["action_failed"],
    }


_HANDS_TOOLS = ("run", "read", "edit", "think")


def spoken(total: Counts) -> int:
    return total["message"] + total["action"] + total["notice"]


def plain_user_records(folder: Path) -> int:
    """User records whose content is a text, not blocks: the one message COUNTS.json leaves out."""
    found = 0
    for path in folder.rglob("*.jsonl"):
        for line in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            if record["type"] == "user" and isinstance(record["message"]["content"], str):
                found += 1
    return found
