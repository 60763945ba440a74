"""The plain model of projecting: events appended, builds on shelves, and a tally to count them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from eventlog.entry import Entry
from eventlog.event import Event
from eventlog.partition import partition_of
from eventlog.vocabulary import ConversationCleared, MessageReceived, MessageSent
from projections.builtin import DEFAULT_PROJECTIONS
from projections.projection import DocumentProjection, IndexEntry, Projection
from projections.storing.build import Build, Role, Shelf
from tests.projecting import oracle

PARTITION_COUNT = 2
CHAT_COUNT = 4
CHATS = [f"chat:{n}" for n in range(CHAT_COUNT)]

SAID_BY: Mapping[str, tuple[str, ...]] = {
    "sessions": ("sessions", "statuses"),
    "history": ("history", "history_counts"),
    "conversations": ("conversations",),
    "dead_letters": ("letters", "reasons"),
    "activity_minutes": ("minutes",),
    "activity_totals": ("totals",),
    "activity_conversations": ("chats",),
}
"""What each projection says, in the oracle's words."""


class Tally(msgspec.Struct):
    count: int = 0


class TallyOne(DocumentProjection[Tally]):
    """Messages per conversation."""

    name = "tally"
    types = (MessageReceived, MessageSent)
    state_type = Tally
    facets: ClassVar[tuple[str, ...]] = ("is",)

    def key(self, event: Event) -> str | None:
        return event.conversation

    def initial(self, key: str) -> Tally:  # noqa: ARG002 - all begin alike
        return Tally()

    def apply(self, state: Tally, entry: Entry) -> Tally | None:  # noqa: ARG002 - it only counts
        state.count += 1
        return state

    def index(self, key: str, state: Tally) -> list[IndexEntry]:  # noqa: ARG002 - by state alone
        return [("all", state.count), ("is:odd" if state.count % 2 else "is:even", 1)]


class TallyTwo(TallyOne):
    """Events of a session per conversation, since it was cleared."""

    version = 2
    types = (Event,)

    def key(self, event: Event) -> str | None:
        concerns = event.session or isinstance(event, ConversationCleared)
        return event.conversation if concerns else None

    def apply(self, state: Tally, entry: Entry) -> Tally | None:
        return None if isinstance(entry.event, ConversationCleared) else super().apply(state, entry)


TALLIES: dict[int, TallyOne] = {1: TallyOne(), 2: TallyTwo()}


def tally(events: Sequence[Event], version: int) -> Counter[str]:
    """Return what the tally of a version must say, by conversation."""
    counts: Counter[str] = Counter()
    for event in events:
        if version == 1:
            counts[event.conversation] += event.type in ("message.received", "message.sent")
        elif event.type == "conversation.cleared":
            counts[event.conversation] = 0
        else:
            counts[event.conversation] += event.session is not None
    return +counts


def said_of_tally(counts: Counter[str]) -> dict[str, Any]:
    odd = sum(count % 2 for count in counts.values())
    return {"counts": counts, "is": +Counter(odd=odd, even=len(counts) - odd)}


VERSIONS = {projection.name: projection.version for projection in DEFAULT_PROJECTIONS}


class Plain:
    """What must be on a partition's shelf: (projection, role) → build."""

    def __init__(self) -> None:
        self.builds: dict[tuple[str, Role], Build] = {}

    def readable(self, name: str, version: int) -> Build | None:
        for role in ("serving", "previous"):
            build = self.builds.get((name, role))
            if build and build.version == version:
                return build
        return None

    def kept(self, name: str, version: int) -> Build | None:
        """Return the build that projectors of that version keep up to date."""
        build = self.readable(name, version)
        return None if build == self.builds.get((name, "building")) else build

    def swap(self, name: str) -> None:
        """Let what is in the making serve."""
        building = self.builds.pop((name, "building"))
        self.step_down(name)
        self.builds[name, "serving"] = building

    def step_down(self, name: str) -> None:
        """Let what serves, if anything does, be the previous one; what that was is forgotten."""
        served = self.builds.pop((name, "serving"), None)
        self.builds.pop((name, "previous"), None)
        if served:
            self.builds[name, "previous"] = served


class Model:
    """What was appended, and which builds there must be in which role."""

    def __init__(self) -> None:
        self.events: list[list[Event]] = [[] for _ in range(PARTITION_COUNT)]
        self.shelves = [Plain() for _ in range(PARTITION_COUNT)]
        self.version = 1
        """Of the tally, in the program that projects."""
        self.bound: set[int] = set()
        """Partitions whose group must not be ahead of a serving build."""
        self._marks: set[str] = set()
        """Of all builds there ever were."""
        self._reached: dict[tuple[int, str], int] = {}
        """How far a build was at least, by partition and model."""

    @property
    def projections(self) -> tuple[Projection, ...]:
        """Those of the program that projects."""
        return (*DEFAULT_PROJECTIONS, TALLIES[self.version])

    @property
    def all_events(self) -> list[Event]:
        return [event for events in self.events for event in events]

    def append(self, event: Event) -> None:
        self.events[partition_of(event.conversation, PARTITION_COUNT)].append(event)

    # --- builds --------------------------------------------------------------------------------------

    def in_role(self, name: str, role: Role) -> dict[int, Build]:
        """Return a projection's builds in a role, by partition."""
        found = {p: shelf.builds.get((name, role)) for p, shelf in enumerate(self.shelves)}
        return {p: build for p, build in found.items() if build}

    def learn(self, partition: int, build: Build, role: Role) -> None:
        """Take a build that must have been made just now."""
        assert f"{build.model} in {partition}" not in self._marks, "a mark was used twice"
        self._marks.add(f"{build.model} in {partition}")
        self.shelves[partition].builds[build.name, role] = build

    def swap(self, name: str, version: int) -> None:
        """Let every build of a version that is in the making serve."""
        for partition, build in self.in_role(name, "building").items():
            if build.version == version:
                self.shelves[partition].swap(name)

    def lose_shelf(self, partition: int) -> None:
        self.shelves[partition] = Plain()
        self.bound.discard(partition)

    def check(self, shelves: Sequence[Shelf]) -> None:
        """Ensure that shelves have the builds they must have, and that none went back."""
        for partition, (shelf, plain) in enumerate(zip(shelves, self.shelves, strict=True)):
            assert shelf.builds == plain.builds
            for build in shelf.builds.values():
                n = shelf.checkpoint(build).n
                place = partition, build.model
                assert self._reached.get(place, 0) <= n <= len(self.events[partition])
                self._reached[place] = n

    # --- what readers are told -----------------------------------------------------------------------

    def said(self, shelves: Sequence[Shelf] | None) -> dict[str, Any]:
        """Return what the built-in read models must say: of all events, of those stored with shelves."""
        expected: dict[str, Any] = {}
        for name, words in SAID_BY.items():
            told = oracle(self._seen(name, VERSIONS[name], shelves))
            expected |= {word: told[word] for word in words}
        return expected

    def tallied(self, version: int, shelves: Sequence[Shelf] | None) -> Counter[str]:
        """Return what the tally of a version must say, likewise."""
        return tally(self._seen("tally", version, shelves), version)

    def _seen(self, name: str, version: int, shelves: Sequence[Shelf] | None) -> list[Event]:
        """Return the events that readers see, those stored where shelves are given."""
        if shelves is None:
            return self.all_events
        seen: list[Event] = []
        for shelf, plain, events in zip(shelves, self.shelves, self.events, strict=True):
            build = plain.readable(name, version)
            if build is not None:
                seen += events[: shelf.checkpoint(build).n]
        return seen
