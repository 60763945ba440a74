"""Whose events are to be erased, and finding them. Pure.

A scope holds no id of a person, only salted digests of it: that is enough to find their events again
in whatever is restored from a backup, and it does not say by itself who they are.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, Self

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
    platform: str | None = None
    sessions: list[str] = []
    """Digests of the person's sessions: their start no longer names the person once it is erased."""

    @classmethod
    def begin(cls, whose: Whose) -> Self:
        """Return the scope of a new erasure."""
        salt = secrets.token_hex(_DIGEST_BYTES)
        who = _digest(salt, whose.name)
        return cls(
            erasure=new_event_id(), kind=whose.kind, who=who, salt=salt, platform=whose.platform
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
        self._sessions = [set(scope.sessions) for scope in self._scopes]
        self._chats: dict[str, bool] = {}
        self._people: dict[str, Sequence[Scope]] = {}
        self._in_session: dict[str, bool] = {}
        self.seeks_people = any(scope.kind == "user" for scope in self._scopes)

    @property
    def scopes(self) -> list[Scope]:
        """The scopes, with the sessions learned so far."""
        pairs = zip(self._scopes, self._sessions, strict=True)
        return [
            msgspec.structs.replace(scope, sessions=sorted(sessions)) for scope, sessions in pairs
        ]

    def takes(self, event: Event) -> bool:
        """Return whether the event is of a chat, a person or a session that is meant."""
        if self._is_chat(event.conversation):
            return True
        if not self.seeks_people:
            return False
        is_session = event.session is not None and self._is_session(event.session)
        return is_session or any(self._scopes_naming(event))

    def learn(self, event: Event) -> bool:
        """Take note of a session that a person of the scopes has; return whether it was news."""
        if not isinstance(event, SessionStarted) or not self.seeks_people:
            return False
        is_news = False
        for scope in self._scopes_naming(event):
            known, digest = self._sessions[self._scopes.index(scope)], scope.digest(event.session)
            is_news = is_news or digest not in known
            known.add(digest)
        if is_news:
            self._in_session.clear()
        return is_news

    def _scopes_naming(self, event: Event) -> Iterator[Scope]:
        for person in people_in(event):
            for scope in self._of_person(person):
                if scope.platform in (None, platform_of(event)):
                    yield scope

    def _of_person(self, person: str) -> Sequence[Scope]:
        found = self._people.get(person)
        if found is None:
            _bound(self._people)
            users = (scope for scope in self._scopes if scope.kind == "user")
            found = self._people[person] = [s for s in users if s.who == s.digest(person)]
        return found

    def _is_chat(self, conversation: str) -> bool:
        found = self._chats.get(conversation)
        if found is None:
            _bound(self._chats)
            chats = (scope for scope in self._scopes if scope.kind == "chat")
            found = any(scope.who == scope.digest(conversation) for scope in chats)
            self._chats[conversation] = found
        return found

    def _is_session(self, session: str) -> bool:
        found = self._in_session.get(session)
        if found is None:
            _bound(self._in_session)
            pairs = zip(self._scopes, self._sessions, strict=True)
            found = any(known and scope.digest(session) in known for scope, known in pairs)
            self._in_session[session] = found
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


def _bound(memory: dict[str, Any]) -> None:
    if len(memory) >= REMEMBERED_NAMES:
        memory.clear()
