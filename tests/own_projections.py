"""Projections as users write them: several versions of one that counts, and some that meet poison."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from eventlog.entry import Entry
from eventlog.event import Event
from eventlog.log import EventLog
from eventlog.vocabulary import MessageReceived, ToolCalled
from projections.projection import DocumentProjection, IndexEntry
from projections.reading.live import LiveDocuments


class Used(msgspec.Struct):
    chat: str
    count: int = 0


class Tools(DocumentProjection[Used]):
    """Tool calls per chat: a user's projection."""

    name = "tools"
    types = (ToolCalled,)
    state_type = Used
    facets: ClassVar[tuple[str, ...]] = ("tool",)

    def key(self, event: ToolCalled) -> str:
        return event.conversation

    def initial(self, key: str) -> Used:
        return Used(key)

    def apply(self, state: Used, entry: Entry) -> Used:  # noqa: ARG002 - it only counts
        state.count += 1
        return state

    def index(self, key: str, state: Used) -> list[IndexEntry]:  # noqa: ARG002 - by state alone
        return [("all", state.count), ("tool:any", 1)]


class ToolsTwice(Tools):
    """The next version, which counts double."""

    version = 2

    def apply(self, state: Used, entry: Entry) -> Used:
        return super().apply(super().apply(state, entry), entry)


class Strict(Tools):
    """Stops at what it cannot take."""

    name = "strict"
    on_poison = "stop"

    def apply(self, state: Used, entry: Entry) -> Used:
        assert isinstance(entry.event, ToolCalled)
        if entry.event.name == "poison":
            raise ValueError("cannot take it")
        return super().apply(state, entry)


class Lenient(Strict):
    """Parks what it cannot take."""

    name = "lenient"
    on_poison = "park"


class Mended(Tools):
    """The stopping one with its fault mended."""

    name = "strict"


class Length(msgspec.Struct):
    chat: str
    characters: int = 0


class Lengths(DocumentProjection[Length]):
    """A user's projection, which fails on some texts after it has changed its state."""

    name = "lengths"
    types = (MessageReceived,)
    state_type = Length

    def key(self, event: MessageReceived) -> str:
        if event.text == "keyless":
            raise LookupError("no key")
        return event.conversation

    def initial(self, key: str) -> Length:
        return Length(key)

    def apply(self, state: Length, entry: Entry) -> Length:
        state.characters += len(entry.event.text)  # type: ignore[attr-defined]
        if entry.event.text == "poison":  # type: ignore[attr-defined]
            raise ValueError("cannot take it")
        return state

    def index(self, key: str, state: Length) -> list[IndexEntry]:  # noqa: ARG002 - by state alone
        return [("all", float("nan") if state.characters == 13 else state.characters)]


TOOLS, TOOLS_TWICE = Tools(), ToolsTwice()
LENGTHS = Lengths()


def calls(count: int, chat_count: int = 8, name: str = "find", first: int = 0) -> list[Event]:
    return [
        ToolCalled(conversation=f"chat:{n % chat_count}", id=f"call-{n}", call=f"{n}", name=name)
        for n in range(first, first + count)
    ]


def poisoned() -> list[Event]:
    """Return 88 calls in 8 chats, one in each of which cannot be taken by who minds poison."""
    return [*calls(40), *calls(8, name="poison", first=40), *calls(40, first=48)]


async def used(log: EventLog, projection: Tools = TOOLS, stored: bool = True) -> dict[str, int]:
    """Return the counts by chat, as the list says them."""
    documents = LiveDocuments(log, projection)
    page = await documents.page("all", 1000, consistency="stored" if stored else "live")
    return {each.chat: each.count for each in page.items}
