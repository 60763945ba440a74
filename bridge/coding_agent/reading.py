"""From what an agent lists to events, and to whether it has come to an end. Pure.

Only what will not change any more becomes an event, each with an id made of the agent's own ids:
read the same message twice, after whatever crash, and it is one event. A text that is still
growing is no event until it is whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from bridge.coding_agent.shapes import AgentMessage, Part, Time
from eventlog.event import MAX_NAME_CHARACTERS, Event
from eventlog.vocabulary import (
    Attachment,
    MessageReceived,
    MessageSent,
    ToolCalled,
    ToolReturned,
)

MARK = "eventlog_message"
"""Key in the metadata of a prompt's text part: the event that the prompt was made of."""

PLATFORM = "agent"
"""Of messages that were found at the agent."""

GOES_ON = frozenset({"tool-calls", "unknown"})
"""Ends of a step after which another one follows."""

MAX_DAY_MS = 4_102_444_800_000
"""The year 2100; a time beyond it is a mistake."""


class Place(NamedTuple):
    """Where an agent's events belong."""

    conversation: str
    session: str
    agent: str | None
    now_us: int
    """For what has no time of its own."""
    max_text_bytes: int
    """A longer text is cut, as JSON counted."""


class Prompt(NamedTuple):
    """A message in the log that the agent is to get."""

    id: str
    text: str


class Verdict(NamedTuple):
    """How an agent's session stands."""

    status: Literal["running", "completed", "failed"]
    reason: str | None = None
    is_sure: bool = True
    """Whether it holds at once. Else it holds if nothing changes for a while: agents go on after
    errors and after tools without saying so."""


RUNNING = Verdict("running")


def text_of(message: AgentMessage) -> str:
    """Return what somebody wrote, without what the agent added for itself."""
    texts = (part.text for part in message.parts if _is_said(part))
    return "\n\n".join(text for text in texts if text)


def mark_of(message: AgentMessage) -> str | None:
    """Return the event that a prompt was made of, where the agent kept its mark."""
    for part in message.parts:
        if isinstance(part.metadata, dict) and isinstance(part.metadata.get(MARK), str):
            return str(part.metadata[MARK])
    return None


def match_prompts(
    messages: Sequence[AgentMessage], prompts: Sequence[Prompt], foreign: Collection[str] = ()
) -> dict[str, str]:
    """Return the prompt by the agent's message that it became: by mark, else by text, in order.

    A message that carries a mark is a prompt of ours, known or not; one of `foreign` is none.
    """
    asked = [m for m in messages if m.info.role == "user" and m.info.id not in foreign]
    matched = {each.info.id: mark for each in asked if (mark := mark_of(each))}
    found = set(matched.values())
    rest = [prompt for prompt in prompts if prompt.id not in found]
    for each in asked:
        if each.info.id not in matched:
            text = text_of(each)
            same = next((prompt for prompt in rest if prompt.text == text), None)
            if same is not None:
                matched[each.info.id] = same.id
                rest.remove(same)
    return matched


def read_events(
    messages: Sequence[AgentMessage], ours: Collection[str], place: Place
) -> list[Event]:
    """Return what is settled, in the agent's order.

    What an assistant's message holds is settled part by part, and all of it when the message is
    completed or another answer follows (a question may come while it is being written). A user's
    message is settled when any follows; one of `ours` is in the log already.
    """
    answers = [n for n, message in enumerate(messages) if message.info.role == "assistant"]
    last, last_answer = len(messages) - 1, answers[-1] if answers else -1
    events: list[Event] = []
    for number, message in enumerate(messages):
        if message.info.role == "assistant":
            events += _answers(message, place, is_followed=number < last_answer)
        elif message.info.role == "user" and number < last and message.info.id not in ours:
            events += _asked(message, place)
    return events


def choose_new(
    events: Sequence[Event], known: Collection[str], *, is_beginning_known: bool
) -> list[Event]:
    """Return the events that the log lacks, given ids that it has.

    Where those of the beginning are not among them, what comes before the first known one was
    recorded then, since events are recorded in order.
    """
    start = 0
    if not is_beginning_known:
        start = next((n for n, event in enumerate(events) if event.id in known), 0)
    return [event for event in events[start:] if event.id not in known]


def judge_session(messages: Sequence[AgentMessage]) -> Verdict:
    """Return whether the agent has come to an end: its last message says so.

    Tools of earlier messages do not count: an agent that was restarted never ends them.
    """
    if not messages or messages[-1].info.role != "assistant":
        return RUNNING
    info, parts = messages[-1].info, messages[-1].parts
    if info.error is not None:
        return Verdict("failed", _named(info.error), is_sure=False)
    tools = [part.state for part in parts if part.type == "tool" and part.state is not None]
    if info.time.completed is None or not all(tool.has_returned for tool in tools):
        return RUNNING
    asked = [each.info.id for each in messages if each.info.role == "user"]
    is_answer = info.parent is None or not asked or info.parent == asked[-1]
    is_sure = is_answer and (info.finish is None or (info.finish not in GOES_ON and not tools))
    return Verdict("completed", info.finish, is_sure=is_sure)


def is_agents(event: Event) -> bool:
    """Return whether a message in the log came from the agent's side, so that it has it already."""
    return isinstance(event, MessageReceived) and event.platform == PLATFORM


def event_id(session: str, *agent_ids: str) -> str:
    """Return the id of an event made of something that the agent named so."""
    name = ":".join(("agent", session, *agent_ids))
    if len(name) <= MAX_NAME_CHARACTERS:
        return name
    return f"agent:{hashlib.sha256(name.encode()).hexdigest()}"


def _asked(message: AgentMessage, place: Place) -> Iterator[Event]:
    """Yield what somebody asked the agent elsewhere than through the log."""
    text = text_of(message)
    if text:
        yield MessageReceived(
            conversation=place.conversation,
            session=place.session,
            id=event_id(place.session, message.info.id),
            occurred_at=_us(place, message.info.time.created),
            text=_cut(text, place),
            message_id=message.info.id,
            platform=PLATFORM,
        )


def _answers(message: AgentMessage, place: Place, *, is_followed: bool) -> Iterator[Event]:
    info = message.info
    is_settled = is_followed or info.time.completed is not None or info.error is not None
    for number, part in enumerate(message.parts):
        # Parts are only ever added at the end, so that a number names one as well.
        name = part.id or f"{info.id}:{number}"
        if part.type == "tool":
            yield from _tool(name, part, place, info.time, is_settled=is_settled)
        elif part.type in ("text", "file") and (is_settled or _ended_at(part)):
            yield from _said(name, part, place, message)


def _said(name: str, part: Part, place: Place, message: AgentMessage) -> Iterator[Event]:
    text = (part.text or "") if _is_said(part) else ""
    url = part.url if part.type == "file" else None
    is_reference = url is not None and not url.startswith("data:")
    if text.strip() or is_reference:
        time = message.info.time
        yield MessageSent(
            conversation=place.conversation,
            session=place.session,
            id=event_id(place.session, name),
            occurred_at=_us(place, _ended_at(part), time.completed, time.created),
            text=_cut(text, place),
            sender=place.agent,
            message_id=message.info.id,
            message_type="response" if text.strip() else "media",
            platform=PLATFORM,
            attachments=[Attachment(url, part.filename, part.mime)] if url and is_reference else [],
        )


def _tool(
    name: str, part: Part, place: Place, message_time: Time, *, is_settled: bool
) -> Iterator[Event]:
    """Yield the call when its arguments are whole, and what came of it when it has."""
    state = part.state
    if state is None or (state.status == "pending" and not is_settled):
        return
    time, tool = state.time, part.tool or "unknown"
    yield ToolCalled(
        conversation=place.conversation,
        session=place.session,
        id=event_id(place.session, name, "called"),
        occurred_at=_us(place, time.start, message_time.created),
        call=name,
        name=tool,
        arguments=None if state.input is None else _cut(_as_text(state.input), place),
    )
    if state.has_returned:
        is_error = state.status == "error"
        result = state.error if is_error else state.output
        yield ToolReturned(
            conversation=place.conversation,
            session=place.session,
            id=event_id(place.session, name, "returned"),
            occurred_at=_us(place, time.end, time.start, message_time.created),
            call=name,
            name=tool,
            result=None if result is None else _cut(_as_text(result), place),
            is_error=is_error,
            duration_ms=_duration_ms(time),
        )


def _is_said(part: Part) -> bool:
    return part.type == "text" and not part.synthetic and not part.ignored


def _ended_at(part: Part) -> float | None:
    return None if part.time is None else part.time.end


def _duration_ms(time: Time) -> int | None:
    if time.start is None or time.end is None:
        return None
    return max(0, int(time.end - time.start))


def _us(place: Place, *candidates_ms: float | None) -> int:
    """Return the first time that is one, in µs."""
    for ms in candidates_ms:
        if ms is not None and 0 < ms < MAX_DAY_MS:
            return int(ms * 1000)
    return place.now_us


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _cut(text: str, place: Place) -> str:
    """Return the text, or the beginning of one that no event could hold."""
    if len(text) * 6 <= place.max_text_bytes:  # no character is longer in JSON
        return text
    if len(msgspec.json.encode(text)) <= place.max_text_bytes:
        return text
    kept = text[: place.max_text_bytes]
    while (size_bytes := len(msgspec.json.encode(kept))) > place.max_text_bytes:
        kept = kept[: len(kept) * place.max_text_bytes // size_bytes]
    return f"{kept}\n… ({len(text) - len(kept)} more characters)"


def _named(error: Any) -> str:
    """Return an agent's error on one line: its name and what it says."""
    if isinstance(error, dict):
        data = error.get("data")
        said = data.get("message") if isinstance(data, dict) else error.get("message")
        words = [str(word) for word in (error.get("name"), said) if word]
        error = ": ".join(words) or "the agent failed"
    return " ".join(str(error).split())[:500]
