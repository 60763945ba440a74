"""What sessions and conversations must do, in plain dicts and without a log.

A call is a `Step`: given the state, the ways it may go on, each with the state after it and the next
step or what the caller is told. A call that is one step happens at once; where others may come
between two looks at the log, it is several. `outcomes` are all that may come of calls made together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

Told = tuple[Any, ...]
"""What a call returned or raised, by value."""

TERMINAL = ("completed", "failed")
ALLOWED = {
    "pending": ("active", "completed", "failed"),
    "active": ("dormant", "completed", "failed"),
    "dormant": ("active", "completed", "failed"),
    "completed": (),
    "failed": (),
}


class Plain(NamedTuple):
    """A session."""

    conversation: str
    status: str = "active"
    version: int = 1
    user: str | None = None
    project: str | None = None
    owner: str | None = None
    message_count: int = 0


class Spot(NamedTuple):
    """A conversation, or one user in it."""

    conversation: str
    user: str | None = None


class State(NamedTuple):
    """All there is."""

    sessions: Mapping[str, Plain] = {}
    mapped: Mapping[Spot, str] = {}
    messages: frozenset[tuple[str, int]] = frozenset()
    """Conversation and number of those that were said under a number."""

    def with_session(self, name: str, session: Plain) -> State:
        return self._replace(sessions={**self.sessions, name: session})

    def mapping(self, spot: Spot, name: str | None) -> State:
        others = {each: to for each, to in self.mapped.items() if each != spot}
        return self._replace(mapped=others if name is None else {**others, spot: name})

    def moved(self, name: str, to: str, owner: str | None = None) -> State:
        session = self.sessions[name]
        moved = session._replace(
            status=to, version=session.version + 1, owner=owner or session.owner
        )
        return self.with_session(name, moved)

    def is_alive(self, name: str) -> bool:
        return name in self.sessions and self.sessions[name].status not in TERMINAL


class Done(NamedTuple):
    """The end of a call."""

    told: Told


Way = tuple[State, "Step | Done"]
Step = Callable[[State], Iterator[Way]]


def outcomes(state: State, calls: Sequence[Step | Done]) -> Iterator[tuple[State, list[Told]]]:
    """Yield each end that calls made together may come to: the state, and what each was told."""
    if all(isinstance(call, Done) for call in calls):
        yield state, [call.told for call in calls if isinstance(call, Done)]
    for index, call in enumerate(calls):
        if not isinstance(call, Done):
            for after, following in call(state):
                yield from outcomes(after, [*calls[:index], following, *calls[index + 1 :]])


def told_of(name: str, session: Plain) -> Told:
    return name, *session[:-1]


def raised(code: str) -> Done:
    return Done(("raised", code))


# --- sessions --------------------------------------------------------------------------------------


def resolve(spot: Spot, fresh: Plain, made: str) -> Step:
    """The spot's session; else `made`, or the one it is mapped to and that was never started."""

    def step(state: State) -> Iterator[Way]:
        name = state.mapped.get(spot)
        if name is None or (name in state.sessions and not state.is_alive(name)):
            if made in state.sessions:
                return
            name = made
        if name not in state.sessions:
            state = state.with_session(name, fresh)
        # Wherever it lives, what is said in it here belongs to this chat.
        session = state.sessions[name]._replace(conversation=spot.conversation)
        yield state.mapping(spot, name), Done(told_of(name, session))

    return step


def resolve_as(spot: Spot, fresh: Plain, name: str) -> Step:
    """The spot's session; else one of a caller's id: started, then mapped, which others may see."""

    def step(state: State) -> Iterator[Way]:
        mapped = state.mapped.get(spot)
        if mapped is not None and (mapped not in state.sessions or state.is_alive(mapped)):
            yield from resolve(spot, fresh, mapped)(state)
            return
        found = state.sessions.get(name)
        if found is None:
            yield state.with_session(name, fresh), lambda now: be_mapped(now, mapped, fresh)
        elif (found.conversation, found.user) == (spot.conversation, fresh.user) and (
            state.is_alive(name)
        ):
            yield state, lambda now: be_mapped(now, mapped, found)
        else:
            yield state, raised("session_exists")

    def be_mapped(state: State, before: str | None, session: Plain) -> Iterator[Way]:
        if state.mapped.get(spot) == before:
            yield state.mapping(spot, name), Done(told_of(name, session))
        else:
            yield state, step

    return step


def start(name: str, fresh: Plain) -> Step:
    def step(state: State) -> Iterator[Way]:
        if name in state.sessions:
            yield state, raised("session_exists")
        else:
            yield state.with_session(name, fresh), Done(told_of(name, fresh))

    return step


def get(name: str) -> Step:
    def step(state: State) -> Iterator[Way]:
        found = state.sessions.get(name)
        yield state, Done((None,) if found is None else told_of(name, found))

    return step


def touch(name: str) -> Step:
    """A look, then a sign of life: an end that comes between stays the end."""

    def look(state: State) -> Iterator[Way]:
        if name not in state.sessions:
            yield state, raised("session_missing")
        elif not state.is_alive(name):
            yield state, raised("illegal_transition")
        else:
            yield state, live

    def live(state: State) -> Iterator[Way]:
        session = state.sessions[name]
        touched = session._replace(version=session.version + 1)
        yield state.with_session(name, touched), Done((name,))

    return look


def transition(name: str, to: str, expected: int | None = None, owner: str | None = None) -> Step:
    def step(state: State) -> Iterator[Way]:
        session = state.sessions.get(name)
        if session is None:
            yield state, raised("session_missing")
        elif expected not in (None, session.version):
            yield state, raised("version_conflict")
        elif session.status == to and owner in (None, session.owner):
            yield state, Done(told_of(name, session))
        elif session.status != to and to not in ALLOWED[session.status]:
            yield state, raised("illegal_transition")
        else:
            state = state.moved(name, to, owner)
            yield state, Done(told_of(name, state.sessions[name]))

    return step


def dormant_all(owner: str) -> Step:
    def step(state: State) -> Iterator[Way]:
        asleep = [n for n, s in state.sessions.items() if (s.status, s.owner) == ("active", owner)]
        for name in asleep:
            state = state.moved(name, "dormant")
        yield state, Done((len(asleep),))

    return step


def received(name: str, seen: Plain, number: int | None, owner: str) -> Step:
    """A message in a session as its caller saw it; who saw it asleep wakes it, unless it is awake."""

    def arrive(state: State) -> Iterator[Way]:
        if seen.status != "dormant":
            yield from be_said(state)
        elif state.sessions[name].status == "dormant":
            yield from be_said(state.moved(name, "active", owner))
        else:  # it follows who woke it
            yield state, be_said

    def be_said(state: State) -> Iterator[Way]:
        session = state.sessions[name]
        known = (session.conversation, number)
        if number is not None and known in state.messages:
            yield state, Done((True,))
            return
        if number is not None:
            state = state._replace(messages=state.messages | {(session.conversation, number)})
        counted = session._replace(message_count=session.message_count + 1)
        yield state.with_session(name, counted), Done((False,))

    return arrive


# --- conversations ---------------------------------------------------------------------------------


def mapping_of(spot: Spot) -> Step:
    def step(state: State) -> Iterator[Way]:
        yield state, Done((state.mapped.get(spot),))

    return step


def is_mapped(spot: Spot) -> Step:
    def step(state: State) -> Iterator[Way]:
        yield state, Done((spot in state.mapped,))

    return step


def map_to(spot: Spot, name: str) -> Step:
    def step(state: State) -> Iterator[Way]:
        yield state.mapping(spot, name), Done((None,))

    return step


def clear(spot: Spot) -> Step:
    def step(state: State) -> Iterator[Way]:
        yield state.mapping(spot, None), Done((spot in state.mapped,))

    return step


def compact_to(spot: Spot, name: str) -> Step:
    def step(state: State) -> Iterator[Way]:
        yield state.mapping(spot, name), Done((name,))

    return step


def compact(spot: Spot, made: str, owner: str) -> Step:
    """A fresh session that says of itself what the old one said."""

    def step(state: State) -> Iterator[Way]:
        old = state.sessions.get(state.mapped.get(spot, ""))
        user, project = (spot.user, None) if old is None else (old.user, old.project)
        fresh = Plain(spot.conversation, user=user, project=project, owner=owner)
        yield state.with_session(made, fresh).mapping(spot, made), Done((made,))

    return step


def get_or_create(spot: Spot, made: str, owner: str) -> Step:
    """What is stale is removed first, which others may see."""

    def step(state: State) -> Iterator[Way]:
        name = state.mapped.get(spot)
        if name is None and made not in state.sessions:
            fresh = Plain(spot.conversation, user=spot.user, owner=owner)
            yield state.with_session(made, fresh).mapping(spot, made), Done((made,))
        elif name is not None and state.is_alive(name):
            yield state, Done((name,))
        elif name is not None:
            yield state.mapping(spot, None), step

    return step
