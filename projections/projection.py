"""What a projection is: a named, versioned fold of the log into a read model.

Two kinds. A `DocumentProjection` folds the events of one key into one document, a msgspec struct
kept as JSON, and says by which indexes it is found. A `FeedProjection` keeps the last events of one
key as they are. Both are pure: what they make depends on their entries alone, so a read model can
be made again from the log.

>>> class Spending(msgspec.Struct):
...     total_cents: int = 0
>>> class Paid(Event, tag="invoice.paid", frozen=True, kw_only=True):
...     amount_cents: int
>>> class SpendingPerShop(DocumentProjection[Spending]):
...     name = "spending"
...     types = (Paid,)
...     state_type = Spending
...     def key(self, event: Paid) -> str:
...         return event.conversation
...     def initial(self, key: str) -> Spending:
...         return Spending()
...     def apply(self, state: Spending, entry: Entry) -> Spending:
...         state.total_cents += entry.event.amount_cents
...         return state
>>> SpendingPerShop().model
'spending@1'
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Generic, Literal, TypeVar

from eventlog.entry import Entry
from eventlog.errors import ConfigurationError
from eventlog.event import Event
from eventlog.settings import Settings

S = TypeVar("S")

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")

IndexEntry = tuple[str, float]
"""Name of an index and the document's score in it; pages run from the highest score down."""


class Projection(ABC):
    """What both kinds declare.

    `types` are the event classes it is shown, subclasses included; `(Event,)` is every event.
    Raise `version` whenever the fold or the shape of its state changes: the model is made anew.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    types: ClassVar[tuple[type[Event], ...]] = (Event,)
    on_poison: ClassVar[Literal["park", "stop"]] = "park"
    """What becomes of an entry that it fails on: parked as a dead letter, and on; or it stops there,
    it alone, until it is mended. An entry that cannot be decoded is parked either way."""

    @property
    def model(self) -> str:
        """The read model's name, `name@version`."""
        return f"{self.name}@{self.version}"

    @abstractmethod
    def key(self, event: Any) -> str | None:
        """Return what the event belongs to, or None to leave it out."""


class DocumentProjection(Projection, Generic[S]):
    """Folds the events of one key into one document."""

    state_type: type[S]
    facets: ClassVar[tuple[str, ...]] = ()
    """Index names before their colon whose values are counted: `status` for `status:active`."""

    @abstractmethod
    def initial(self, key: str) -> S:
        """Return the document before its first event."""

    @abstractmethod
    def apply(self, state: S, entry: Entry) -> S | None:
        """Return the document after the entry; None removes it.

        May change and return the state it was given. An exception leaves the document as it was
        and parks the entry as a dead letter.
        """

    def apply_all(self, state: S | None, key: str, entries: Sequence[Entry]) -> S | None:
        """Return the document after the entries of one batch; None where there is none.

        Override it only for speed, with the same result as `apply` one by one.
        """
        for entry in entries:
            state = self.apply(self.initial(key) if state is None else state, entry)
        return state

    def index(self, key: str, state: S) -> Iterable[IndexEntry]:  # noqa: ARG002 - none by default
        """Return where the document is found. It depends on nothing but key and state."""
        return ()

    def idle_since(self, state: S) -> int | None:  # noqa: ARG002 - never by default
        """Return since when, in µs UTC, the document has been idle or over; None while it is neither.

        `settings.leaves_after_s` later it leaves Redis, and is answered from beside the archive. An event of
        its own brings it back.
        """
        return None

    def stays_with(self, state: S) -> tuple[str, str] | None:  # noqa: ARG002 - alone by default
        """Return the projection and the document in it that keeps this one in Redis.

        For as long as it is there itself, in the same partition. None for one that goes by itself.
        """
        return None


class FeedProjection(Projection):
    """Keeps the last events of one key, oldest first, and counts all it ever took."""

    @abstractmethod
    def limit(self, settings: Settings) -> int:
        """Return how many events of one key are kept."""

    def conversation(self, key: str) -> str:
        """Return the conversation that the events of a key belong to: the key itself, unless said."""
        return key


def check_projections(projections: Sequence[Projection]) -> None:
    """Ensure that there is one at least, that names are distinct and can be part of a key.

    Raises ConfigurationError.
    """
    names = [projection.name for projection in projections]
    if not names or len(set(names)) != len(names):
        raise ConfigurationError(
            f"projections are {', '.join(p.model for p in projections) or 'none'}.",
            remedy="Give at least one, each with a name of its own.",
        )
    for projection in projections:
        is_named = _NAME.fullmatch(projection.name) and isinstance(projection.version, int)
        if not is_named or projection.version < 1:
            raise ConfigurationError(
                f"{projection.name!r}, version {projection.version!r}, cannot name a projection.",
                remedy="Letters, digits, `_` and `-`, up to 64; versions count from 1.",
            )
