"""Whose events are to be erased, and finding them. Pure.

A scope holds no id of a person, only salted digests of it: that is enough to find their events again
in whatever is restored from a backup, and it does not say by itself who they are.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple, Self

import msgspec

from eventlog.errors import InvalidQuery
from eventlog.event import Event
from eventlog.ids import new_event_id
from eventlog.vocabulary import SessionStarted

Kind = Literal["chat", "user"]

PERSON_FIELDS = ("sender", "recipient", "user")
"""Fields that name a person, also in types of your own."""

OWN_CONVERSATIONS = "eventlog:"
"""What begins the names of conversations that are nobody's."""

REMEMBERED_NAMES = 65_536
_DIGEST_BYTES = 16


class Whose(NamedTuple):
    """Whose content is meant: that of a chat, or of a person, on one platform or on all."""

    kind: Kind
    name: str
    platform: str | None = None

    @classmethod
    def of(cls, *, chat: str | None, user: str | None, platform: str | None) -> Self:
        """Return who is meant by exactly one of `chat` and `user`. Raises InvalidQuery."""
        if (chat is None) == (user is None):
            raise InvalidQuery("erase takes either a chat or a user.")
        if chat is not None and platform is not None:
            raise InvalidQuery(
                "a chat is of one platform by itself.", remedy="Give a platform with a user only."
            )
        named = cls("user", user, platform) if user is not None else cls("chat", str(chat))
        if not named.name or platform == "":
            raise InvalidQuery("nobody is named: the chat, user or platform is empty.")
        if named.kind == "chat" and named.name.startswith(OWN_CONVERSATIONS):
            raise InvalidQuery(f"{named.name!r} is no chat: the log keeps its own records there.")
        return named


class Scope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One erasure: what to look for."""

    erasure: str
    """Its name, and that of its record in the ledger."""
    kind: Kind
    who: str
    """Digest of the chat, or of the person's id."""
    salt: str
    until_ms: int
    """Entries appended later, by the server's clock, are not meant: who was erased may come back."""
    platform: str | None = None
    sessions: list[str] = []
    """Digests of the person's sessions: their start no longer names the person once it is erased."""

    @classmethod
    def begin(cls, whose: Whose, until_ms: int) -> Self:
        """Return the scope of a new erasure."""
        salt = secrets.token_hex(_DIGEST_BYTES)
        return cls(
            erasure=new_event_id(),
            kind=whose.kind,
            who=_digest(salt, whose.name),
            salt=salt,
            until_ms=until_ms,
            platform=whose.platform,
        )

    def is_of(self, whose: Whose) -> bool:
        """Return whether it was asked for just that."""
        asked = (whose.kind, whose.platform, _digest(self.salt, whose.name))
        return (self.kind, self.platform, self.who) == asked

    def digest(self, name: str) -> str:
        """Return a name's digest in this scope."""
        return _digest(self.salt, name)


def _digest(salt: str, name: str) -> str:
    key = bytes.fromhex(salt)
    return hashlib.blake2b(name.encode(), key=key, digest_size=_DIGEST_BYTES).hexdigest()


class Selection:
    """Says of events whether any of the scopes takes them. It learns sessions as it is shown starts."""

    def __init__(self, scopes: Iterable[Scope]) -> None:
        self._scopes = list(scopes)
        self._sessions = {scope.erasure: set(scope.sessions) for scope in self._scopes}
        self._by_chat: dict[str, list[Scope]] = {}
        self._by_person: dict[str, list[Scope]] = {}
        self._by_session: dict[str, list[Scope]] = {}
        self.seeks_people = any(scope.kind == "user" for scope in self._scopes)

    @property
    def scopes(self) -> list[Scope]:
        """The scopes, with the sessions learned so far."""
        return [
            msgspec.structs.replace(scope, sessions=sorted(self._sessions[scope.erasure]))
            for scope in self._scopes
        ]

    def takes(self, event: Event, ms: int) -> bool:
        """Return whether an event appended at that time is of a chat, person or session that is meant."""
        if _reaches(self._of_chat(event.conversation), ms):
            return True
        if not self.seeks_people:
            return False
        if event.session is not None and _reaches(self._of_session(event.session), ms):
            return True
        return _reaches(self._naming(event), ms)

    def concerns(self, field: str, name: str) -> bool:
        """Return whether any scope is of what a field names: a conversation, session or person."""
        if field == "conversation":
            return bool(self._of_chat(name))
        return bool(self._of_session(name) if field == "session" else self._of_person(name))

    def learn(self, event: Event, ms: int) -> bool:
        """Take note of a session that a person of the scopes has; return whether it was news."""
        if not isinstance(event, SessionStarted) or not self.seeks_people:
            return False
        is_news = False
        for scope in self._naming(event):
            known, digest = self._sessions[scope.erasure], scope.digest(event.session)
            if ms <= scope.until_ms and digest not in known:
                known.add(digest)
                is_news = True
        if is_news:
            self._by_session.clear()
        return is_news

    def _naming(self, event: Event) -> Iterator[Scope]:
        for person in people_in(event):
            for scope in self._of_person(person):
                if scope.platform in (None, platform_of(event)):
                    yield scope

    def _of_chat(self, name: str) -> list[Scope]:
        return _remembered(
            self._by_chat,
            name,
            lambda: [s for s in self._scopes if s.kind == "chat" and s.who == s.digest(name)],
        )

    def _of_person(self, name: str) -> list[Scope]:
        return _remembered(
            self._by_person,
            name,
            lambda: [s for s in self._scopes if s.kind == "user" and s.who == s.digest(name)],
        )

    def _of_session(self, name: str) -> list[Scope]:
        return _remembered(
            self._by_session,
            name,
            lambda: [s for s in self._scopes if s.digest(name) in self._sessions[s.erasure]],
        )


def _reaches(scopes: Iterable[Scope], ms: int) -> bool:
    return any(ms <= scope.until_ms for scope in scopes)


def _remembered(
    memory: dict[str, list[Scope]], name: str, find: Callable[[], list[Scope]]
) -> list[Scope]:
    """Return what is found of a name, looked for once: digests cost more than what they are for."""
    found = memory.get(name)
    if found is None:
        if len(memory) >= REMEMBERED_NAMES:
            memory.clear()
        found = memory[name] = find()
    return found


def people_in(event: Event) -> Iterator[str]:
    """Yield the ids of the people that an event names."""
    for name in PERSON_FIELDS:
        value = getattr(event, name, None)
        if value is None:
            value = event.extra.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool):
            yield str(value)


def platform_of(event: Event) -> str:
    """Return the platform that an event is of: what it says, else what begins its conversation."""
    platform = getattr(event, "platform", None) or event.extra.get("platform")
    return platform if isinstance(platform, str) else event.conversation.partition(":")[0]
