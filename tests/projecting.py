"""Input, oracle and read-out for the tests of projections.

The oracle counts in plain Python and shares no code with the folds.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Collection
from typing import Any, TypeVar

import msgspec

from eventlog.codec import Codec
from eventlog.entry import Entry, RawEntry
from eventlog.event import Event
from eventlog.ids import START, EntryId
from eventlog.log import EventLog
from eventlog.past import Past, Stretch
from eventlog.vocabulary import (
    BridgeEvent,
    ConversationCleared,
    ConversationCompacted,
    ConversationMapped,
    DeadLetterDiscarded,
    DeadLetterParked,
    DeadLetterReplayed,
    DeadLetterReplayRequested,
    DeadLetterResolved,
    MessageQueued,
    MessageReceived,
    MessageSent,
    SessionStarted,
    SessionTouched,
    SessionTransitioned,
    ToolCalled,
    ToolReturned,
)
from projections.projection import DocumentProjection
from projections.reading.live import Consistency
from projections.storing.store import ModelStore
from projections.views.activity import Activity
from projections.views.conversations import Conversations
from projections.views.dead_letters import DeadLetters
from projections.views.history import History
from projections.views.sessions import Sessions

S = TypeVar("S", bound=msgspec.Struct)

STATUSES = ("pending", "active", "dormant", "completed", "failed")
START_US = 1_700_000_000_000_000


def random_events(rnd: random.Random, count: int, chat_count: int = 7) -> list[Event]:
    """Return events of every kind; each session and letter belongs to one chat."""
    events: list[Event] = []
    for number in range(count):
        chat = rnd.randrange(chat_count)
        base: dict[str, Any] = {
            "conversation": f"chat:{chat}",
            "id": f"e-{number}",
            # Clocks jump back and forth: order must not depend on them.
            "occurred_at": START_US + number * 1_000_000 + rnd.randrange(-90, 90) * 1_000_000,
        }
        within = {**base, "session": f"s-{chat}-{rnd.randrange(3)}"}
        letter = {"letter": f"l-{chat}-{rnd.randrange(3)}", "group": "delivery"}
        status = rnd.choice(STATUSES)
        make = rnd.choice(
            (
                lambda b=base: MessageReceived(**b, text="hello", sender="u1"),
                lambda b=within: MessageReceived(**b, text="wörld ✓", message_type="action"),
                lambda b=within: MessageSent(**b, text="answer"),
                lambda b=base: MessageQueued(**b, text="later"),
                lambda b=within, s=status: SessionStarted(**b, status=s, user="u1", project="p1"),
                lambda b=within, s=status: SessionTransitioned(**b, to_status=s),
                lambda b=within: SessionTouched(**b),
                lambda b=within: ToolCalled(**b, call="c", name="find"),
                lambda b=within: ToolReturned(**b, call="c", is_error=True),
                lambda b=within: ConversationMapped(**b),
                lambda b=base: ConversationCleared(**b),
                lambda b=within: ConversationCompacted(**b),
                lambda b=base: BridgeEvent(**b, event_type="irc.system"),
                lambda b=base, k=letter: DeadLetterParked(**b, **k, reason=rnd.choice("xyz")),
                lambda b=base, k=letter: DeadLetterReplayRequested(
                    **b, **k, version=2, runner=rnd.choice((None, "me"))
                ),
                lambda b=base, k=letter: DeadLetterReplayed(**b, **k, attempt=2),
                lambda b=base, k=letter: DeadLetterResolved(**b, **k),
                lambda b=base, k=letter: DeadLetterDiscarded(**b, **k, reason="old"),
            )
        )
        events.append(make())
    return events


def oracle(events: list[Event], history_limit: int = 500) -> dict[str, Any]:
    """Return what the read models must say after the events."""
    sessions: dict[str, dict[str, Any]] = {}
    history: dict[str, list[str]] = defaultdict(list)
    conversations: dict[str, dict[str, Any]] = {}
    letters: dict[str, dict[str, Any]] = {}
    totals: Counter[str] = Counter()
    minutes: dict[int, Counter[str]] = defaultdict(Counter)
    chats: dict[str, Counter[str]] = defaultdict(Counter)
    times: dict[str, list[int]] = defaultdict(list)
    for event in events:
        if event.session:
            _session(sessions, event)
        if event.type in ("message.received", "message.sent"):
            history[event.conversation].append(event.id)
        if event.type.startswith("conversation."):
            _conversation(conversations, event)
        if event.type.startswith("dead_letter."):
            _letter(letters, event)
        label = event.type
        for name in ("message_type", "event_type", "to_status"):
            if hasattr(event, name):
                label += ":" + getattr(event, name)
        totals[label] += 1
        minutes[event.occurred_at // 60_000_000][label] += 1
        chats[event.conversation][label] += 1
        times[event.conversation].append(event.occurred_at)
    begun = {name: seen for name, seen in sessions.items() if seen["version"]}
    return {
        "sessions": begun,
        "statuses": Counter(s["status"] for s in begun.values()),
        "history": {chat: ids[-history_limit:] for chat, ids in history.items()},
        "history_counts": {chat: len(ids) for chat, ids in history.items()},
        "conversations": conversations,
        "letters": letters,
        "reasons": Counter(k["reason"] for k in letters.values() if k["status"] == "parked"),
        "totals": dict(totals),
        "minutes": {minute: dict(counts) for minute, counts in minutes.items()},
        "chats": {
            chat: (dict(counts), min(times[chat]), max(times[chat]))
            for chat, counts in chats.items()
        },
    }


def _session(sessions: dict[str, dict[str, Any]], event: Event) -> None:
    seen = sessions.setdefault(
        event.session or "",
        {"status": None, "messages": 0, "tools": 0, "errors": 0, "version": 0, "active_us": 0},
    )
    wanted = {"session.started": "status", "session.transitioned": "to_status"}.get(event.type)
    target = getattr(event, wanted) if wanted else None
    if not event.type.startswith("session."):
        target = None  # naming a session makes none
    elif seen["status"] is None:
        seen["status"] = target or "active"
    elif target and seen["status"] not in ("completed", "failed") and target != "pending":
        seen["status"] = target
    seen["messages"] += event.type in ("message.received", "message.sent")
    seen["tools"] += event.type == "tool.called"
    seen["errors"] += event.type == "tool.returned" and event.is_error  # type: ignore[attr-defined]
    seen["version"] += event.type.startswith("session.")
    falls_asleep = getattr(event, "to_status", None) == "dormant"
    if not falls_asleep or not seen["active_us"]:
        seen["active_us"] = max(seen["active_us"], event.occurred_at)


def _conversation(conversations: dict[str, dict[str, Any]], event: Event) -> None:
    seen = conversations.setdefault(event.conversation, {"session": None, "past": [], "version": 0})
    now = None if event.type == "conversation.cleared" else event.session
    if seen["session"] not in (None, now):
        seen["past"].append(seen["session"])
    seen["session"] = now
    seen["version"] += 1


def _letter(letters: dict[str, dict[str, Any]], event: Any) -> None:
    seen = letters.setdefault(
        event.letter, {"status": "parked", "reason": "", "attempts": 0, "version": 0}
    )
    seen["version"] += 1
    if seen["status"] in ("resolved", "discarded"):
        return
    verb = event.type.removeprefix("dead_letter.")
    seen["status"] = {"replay_requested": "replaying", "replayed": "parked"}.get(verb, verb)
    if verb == "parked":
        seen["reason"] = event.reason
    elif verb == "replayed":
        seen["attempts"] = max(seen["attempts"], event.attempt)


async def read_out(
    log: EventLog,
    chats: list[str],
    consistency: Consistency = "live",
    store: ModelStore | None = None,
    page_size: int = 7,
    past: Past | None = None,
) -> dict[str, Any]:
    """Return what the read models say, in the oracle's words, through the paged queries.

    History goes on into `past`, the archive.
    """
    sessions, letters = Sessions(log, store), DeadLetters(log, store)
    history, activity = History(log, store, past=past), Activity(log, store)
    conversations = Conversations(log, store)
    found = await _everything(sessions.list, page_size, consistency)
    parked = await _everything(letters.list, page_size, consistency)
    return {
        "sessions": {
            s.id: {
                "status": s.status,
                "messages": s.message_count,
                "tools": s.tool_call_count,
                "errors": s.tool_error_count,
                "version": s.version,
                "active_us": s.last_activity_at,
            }
            for s in found
        },
        "statuses": +Counter(await sessions.counts(consistency=consistency)),
        "history": {
            chat: ids
            for chat in chats
            if (ids := await _history(history, chat, page_size, consistency))
        },
        "history_counts": {
            chat: count
            for chat in chats
            if (count := await history.count(chat, consistency=consistency))
        },
        "conversations": {
            chat: {"session": c.session, "past": c.past, "version": c.version}
            for chat in chats
            if (c := await conversations.get(chat, consistency=consistency))
        },
        "letters": {
            k.letter: {
                "status": k.status,
                "reason": k.reason,
                "attempts": k.attempts,
                "version": k.version,
            }
            for k in parked
        },
        "reasons": Counter(await letters.counts_by_reason(consistency=consistency)),
        "totals": await activity.totals(consistency=consistency),
        "minutes": {
            minute.minute: minute.counts
            for minute in await _everything(
                lambda **arguments: activity.per_minute(0, 2 * START_US, **arguments),
                page_size,
                consistency,
            )
        },
        "chats": {
            chat.conversation: (chat.counts, chat.first_at, chat.last_at)
            for chat in await _everything(activity.conversations, page_size, consistency)
        },
    }


async def _everything(query: Any, limit: int, consistency: Consistency) -> list[Any]:
    items: list[Any] = []
    cursor = None
    while True:
        page = await query(limit=limit, cursor=cursor, consistency=consistency)
        items += page.items
        cursor = page.cursor
        if cursor is None:
            break
        assert len(page.items) == limit
    keys = [str(getattr(item, item.__struct_fields__[0])) for item in items]
    assert len(keys) == len(set(keys)), "a page repeats an item"
    return items


async def _history(history: History, chat: str, limit: int, consistency: Consistency) -> list[str]:
    ids: list[str] = []
    cursor = None
    while True:
        page = await history.last(chat, limit, cursor=cursor, consistency=consistency)
        ids = [entry.event.id for entry in page.entries] + ids
        cursor = page.cursor
        if cursor is None:
            return ids


class ListedPast:
    """An archive that is a list of one partition's entries, without gap from the first."""

    def __init__(self) -> None:
        self.entries: list[RawEntry] = []
        self.reads = 0
        self._codec = Codec()

    async def position(self, partition: int) -> EntryId:
        assert partition == 0
        self.reads += 1
        return self.entries[-1].id if self.entries else START

    async def read(
        self,
        partition: int,
        after: EntryId,
        until: EntryId | None = None,
        types: Collection[str] | None = None,
    ) -> AsyncIterator[Stretch]:
        assert partition == 0
        chosen = [e for e in self.entries if e.id > after and (until is None or e.id <= until)]
        if chosen:
            wanted = [e for e in chosen if types is None or self._codec.decode(e.raw).type in types]
            yield Stretch(wanted, chosen[-1].id)

    async def of_conversation(
        self,
        partition: int,
        conversation: str,
        types: Collection[str],
        *,
        limit: int,
        after: int = 0,
        before: int | None = None,
        newest_first: bool = False,
    ) -> list[RawEntry]:
        assert partition == 0
        self.reads += 1
        found = []
        for raw in self.entries:
            event = self._codec.decode(raw.raw)
            is_between = after < raw.id.n and (before is None or raw.id.n < before)
            if is_between and event.conversation == conversation and event.type in types:
                found.append(raw)
        return (found[::-1] if newest_first else found)[:limit]


def fold(projection: DocumentProjection[S], *events: Event, key: str | None = None) -> S:
    """Return the document that a projection makes of the events, of the first one's key or `key`."""
    chosen = key or projection.key(events[0])
    assert chosen is not None
    state: S | None = projection.initial(chosen)
    for n, event in enumerate(events, 1):
        if projection.key(event) == chosen:
            entry = Entry(0, EntryId(1, n), event, b"")
            state = projection.apply(projection.initial(chosen) if state is None else state, entry)
    assert state is not None
    return state


def chats_of(events: list[Event]) -> list[str]:
    """Return the conversations of the events, each once."""
    return sorted({event.conversation for event in events})
