"""The envelope: what every event carries, whatever its type.

An event is one flat JSON object: the envelope's keys, then the type's own. `type` is the tag, a
stable string and never a class path; `schema` is the version of the type's own keys and is always
written, so that an old entry can be told from a new one.
"""

from __future__ import annotations

import itertools
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta, field

from eventlog.clock import SYSTEM_CLOCK
from eventlog.ids import new_event_id

EntityKind = Literal["session", "conversation", "letter", "transcript"]

MAX_NAME_CHARACTERS = 512
"""Longest id, conversation or session: they become hash fields and key parts."""

Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARACTERS)]


def schema_version(number: int) -> Any:
    """Pin the current schema of a type, as its field `schema`.

    A factory rather than a plain default, because `omit_defaults` would leave a default unwritten.
    """
    return field(default_factory=itertools.repeat(number).__next__)


class Event(
    msgspec.Struct,
    kw_only=True,
    frozen=True,
    gc=False,
    tag_field="type",
    omit_defaults=True,
    forbid_unknown_fields=True,  # the codec catches what is unknown and keeps it in `extra`
):
    """An immutable fact: the envelope. Types of your own subclass it with `tag="my.type"`.

    `conversation` is the routing key (`telegram:12345`): equal conversation, equal partition, hence
    order. `id` is the idempotency key: give the platform's own (`telegram:12345:991`) where there
    is one. `occurred_at` is the producer's clock in µs UTC. `is_erased` says that the content was
    erased (`eventlog.erasure`) and only the fact is left. `extra` holds keys that a newer
    producer wrote and this program does not know; they are kept when the event is encoded again.

    >>> class Paid(Event, tag="invoice.paid", frozen=True, kw_only=True):
    ...     amount_cents: int
    >>> Paid(conversation="shop:7", amount_cents=995).type
    'invoice.paid'
    """

    VERSIONED: ClassVar[EntityKind | None] = None
    """The entity whose version events of this type advance, if any."""

    KEPT_WHEN_ERASED: ClassVar[frozenset[str]] = frozenset()
    """Fields of a type of your own that erasing leaves as they are, beside booleans and literals."""

    conversation: Name
    id: Name = field(default_factory=new_event_id)
    schema: int = schema_version(1)
    occurred_at: int = field(default_factory=SYSTEM_CLOCK.now_us)
    session: Name | None = None
    causation_id: str | None = None
    correlation_id: str | None = None
    is_erased: bool = False
    extra: dict[str, Any] = {}

    @property
    def type(self) -> str:
        """The stable type string, as in the log."""
        return str(self.__struct_config__.tag)

    @property
    def entity(self) -> str | None:
        """The entity whose version this event advances, as `session:ID` and the like, or None."""
        if self.VERSIONED is None:
            return None
        return f"{self.VERSIONED}:{getattr(self, self.VERSIONED)}"

    @property
    def entity_mark(self) -> str:
        """What the entity is from this event on (`eventlog.entity`); "" where it stays what it was."""
        return ""


class UnknownEvent(Event, frozen=True, kw_only=True, tag=False, tag_field=None):
    """An event of a type, or a newer schema, that this program does not know: all in `extra`."""

    type: str  # a field here, the class's tag everywhere else


def current_schema(event_type: type[Event]) -> int:
    """Return the schema version that events of this class are written with."""
    for known in msgspec.structs.fields(event_type):
        if known.name == "schema" and known.default_factory is not msgspec.NODEFAULT:
            return int(known.default_factory())
    raise TypeError(f"{event_type.__name__}.schema must be declared with schema_version(N)")
