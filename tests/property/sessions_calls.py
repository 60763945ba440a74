"""Calls of a bridge as values: what to do, what it told, and what the model says of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from hypothesis import strategies as st

from bridge import Bridge
from eventlog.errors import IllegalTransition, SessionExists, SessionMissing, VersionConflict
from projections.views.sessions import Session
from tests.property import sessions_model as model
from tests.property.sessions_model import Plain, Spot, State, Step, Told

PLATFORM = "telegram"
USERS = ("1", "2")
GROUP, CHANNEL = "-100", "-200"
"""Chats of many: with a session each, and with one for all."""
SPOTS = (
    *(Spot(f"{PLATFORM}:{user}") for user in USERS),
    *(Spot(f"{PLATFORM}:{GROUP}", user) for user in USERS),
    Spot(f"{PLATFORM}:{CHANNEL}"),
)
SUPPLIED = tuple(f"mine:{n}" for n in range(4))
"""Ids of callers', which fall into any partition."""
STATUSES = ("pending", "active", "dormant", "completed", "failed")
OWNERS = ("left", "right")


class Call(NamedTuple):
    """`make` calls it for one of the owners; `step` is the model's, given what was told."""

    name: str
    make: Callable[[Bridge], Awaitable[Any]]
    step: Callable[[str, Told], Step]
    tell: Callable[[Any], Told] = lambda value: (value,)

    async def told_by(self, bridge: Bridge) -> Told:
        """Return what the bridge tells."""
        try:
            return self.tell(await self.make(bridge))
        except (IllegalTransition, SessionExists, SessionMissing, VersionConflict) as error:
            return "raised", error.code


def told_of(session: Session | None) -> Told:
    """Return a session without its count of messages, which only the log knows for sure."""
    return (None,) if session is None else model.told_of(session.id, plain(session))


def plain(session: Session) -> Plain:
    assert session.status is not None
    return Plain(
        session.conversation,
        session.status,
        session.version,
        session.user,
        session.project,
        session.owner,
        session.message_count,
    )


# --- sessions --------------------------------------------------------------------------------------


def resolve(spot: Spot, user: str, name: str | None) -> Call:
    chat = spot.conversation.removeprefix(f"{PLATFORM}:")
    is_shared = chat == CHANNEL

    def step(owner: str, told: Told) -> Step:
        fresh = Plain(spot.conversation, user=user, owner=owner)
        return model.resolve_as(spot, fresh, name) if name else model.resolve(spot, fresh, told[0])

    return Call(
        f"resolve {spot} for {user} as {name}",
        lambda bridge: bridge.sessions.resolve(
            PLATFORM, user, None if chat in USERS else chat, shared=is_shared, session_id=name
        ),
        step,
        told_of,
    )


def start(conversation: str | None, name: str | None, status: Any, project: str | None) -> Call:
    return Call(
        f"start {name} in {conversation}, {status}",
        lambda bridge: bridge.sessions.start(
            conversation, session_id=name, status=status, project=project
        ),
        lambda owner, told: model.start(
            name or told[0],
            Plain(conversation or name or told[0], status, project=project, owner=owner),
        ),
        told_of,
    )


def get(name: str) -> Call:
    return Call(
        f"get {name}",
        lambda bridge: bridge.sessions.get(name),
        lambda _owner, _told: model.get(name),
        told_of,
    )


def touch(name: str) -> Call:
    return Call(
        f"touch {name}",
        lambda bridge: bridge.sessions.touch(name),
        lambda _owner, _told: model.touch(name),
        lambda session: (session.id,),
    )


def transition(name: str, to: Any, expected: int | None) -> Call:
    return Call(
        f"move {name} to {to} from {expected}",
        lambda bridge: bridge.sessions.transition(name, to, expected=expected),
        lambda _owner, _told: model.transition(name, to, expected),
        told_of,
    )


def complete(name: str) -> Call:
    return Call(
        f"complete {name}",
        lambda bridge: bridge.sessions.complete(name),
        lambda _owner, _told: model.transition(name, "completed"),
        told_of,
    )


def fail(name: str) -> Call:
    return Call(
        f"fail {name}",
        lambda bridge: bridge.sessions.fail(name, "why"),
        lambda _owner, _told: model.transition(name, "failed"),
        told_of,
    )


def resume(name: str) -> Call:
    return Call(
        f"resume {name}",
        lambda bridge: bridge.sessions.resume(name),
        lambda owner, _told: model.transition(name, "active", owner=owner),
        told_of,
    )


def received(session: Session, number: int | None) -> Call:
    return Call(
        f"message {number} in {session.id}, {session.status} at {session.version}",
        lambda bridge: bridge.received(session, "hello", message_id=number),
        lambda owner, _told: model.received(session.id, plain(session), number, owner),
        lambda result: (result.duplicate,),
    )


# --- conversations ---------------------------------------------------------------------------------


def mapping_of(spot: Spot) -> Call:
    return Call(
        f"get {spot}",
        lambda bridge: bridge.conversations.get(spot.conversation, user=spot.user),
        lambda _owner, _told: model.mapping_of(spot),
    )


def is_mapped(spot: Spot) -> Call:
    return Call(
        f"exists {spot}",
        lambda bridge: bridge.conversations.exists(spot.conversation, user=spot.user),
        lambda _owner, _told: model.is_mapped(spot),
    )


def map_to(spot: Spot, name: str) -> Call:
    return Call(
        f"set {spot} to {name}",
        lambda bridge: bridge.conversations.set(spot.conversation, name, user=spot.user),
        lambda _owner, _told: model.map_to(spot, name),
    )


def clear(spot: Spot, by: str) -> Call:
    return Call(
        f"{by} {spot}",
        lambda bridge: getattr(bridge.conversations, by)(spot.conversation, user=spot.user),
        lambda _owner, _told: model.clear(spot),
    )


def compact(spot: Spot, name: str | None) -> Call:
    return Call(
        f"compact {spot} to {name}",
        lambda bridge: bridge.conversations.compact(spot.conversation, name, user=spot.user),
        lambda owner, told: (
            model.compact_to(spot, name) if name else model.compact(spot, told[0], owner)
        ),
    )


def get_or_create(spot: Spot) -> Call:
    return Call(
        f"get or create {spot}",
        lambda bridge: bridge.conversations.get_or_create(spot.conversation, user=spot.user),
        lambda owner, told: model.get_or_create(spot, told[0], owner),
    )


# --- which ones ------------------------------------------------------------------------------------


def calls_in(state: State, seen: Mapping[str, Session]) -> st.SearchStrategy[Call]:
    """Return any call that makes sense in a state; `seen` are sessions as callers saw them, by key."""
    names = st.sampled_from([*SUPPLIED, *(name for name in state.sessions if name not in SUPPLIED)])
    supplied = st.sampled_from(SUPPLIED)
    spots = st.sampled_from(SPOTS)
    users = st.sampled_from(USERS)
    versions = st.one_of(st.none(), st.integers(1, 6))
    choices = [
        st.builds(_resolve_by, spots, users, st.just(None) | supplied),
        st.builds(
            start,
            st.none() | spots.map(lambda spot: spot.conversation),
            st.none() | supplied,
            st.sampled_from(["pending", "active"]),
            st.none() | st.just("p"),
        ),
        st.builds(get, names),
        st.builds(touch, names),
        st.builds(transition, names, st.sampled_from(STATUSES), versions),
        st.builds(complete, names),
        st.builds(fail, names),
        st.builds(resume, names),
        st.builds(mapping_of, spots),
        st.builds(is_mapped, spots),
        st.builds(map_to, spots, names),
        st.builds(clear, spots, st.sampled_from(["clear", "delete"])),
        st.builds(compact, spots, st.none() | supplied),
        st.builds(get_or_create, spots),
    ]
    if seen:
        callers = st.sampled_from([*seen.values()])
        choices.append(st.builds(received, callers, st.none() | st.integers(1, 3)))
    return st.one_of(choices)


def _resolve_by(spot: Spot, anybody: str, name: str | None) -> Call:
    chat = spot.conversation.removeprefix(f"{PLATFORM}:")
    return resolve(spot, spot.user or (chat if chat in USERS else anybody), name)
