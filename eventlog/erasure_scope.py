"""Whose events are to be erased, and finding them. Pure.

A scope holds no id of a person, only salted digests of it: that is enough to find their events again
in whatever is restored from a backup, and it does not say by itself who they are.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import defaultdict
from collections.abc import Iterable, Iterator
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
    def begin(cls, whose: Whose, until_ms: int, salt: str | None = None) -> Self:
        """Return the scope of a new erasure; with a salt that others have it is found as fast as they."""
        salt = salt or secrets.token_hex(_DIGEST_BYTES)
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
        self._salts = list(dict.fromkeys(scope.salt for scope in self._scopes))
        self._by_digest: defaultdict[tuple[str, str], list[Scope]] = defaultdict(list)
        """Scopes by what a digest is of, `chat`, `user` or `session`, and the digest."""
        self._remembered: dict[tuple[str, str], list[Scope]] = {}
        self._sessions = {scope.erasure: set(scope.sessions) for scope in self._scopes}
        self.seeks_people = any(scope.kind == "user" for scope in self._scopes)
        for scope in self._scopes:
            self._by_digest[scope.kind, scope.who].append(scope)
            for digest in scope.sessions:
                self._by_digest["session", digest].append(scope)

    @property
    def scopes(self) -> list[Scope]:
        """The scopes, with the sessions learned so far."""
        return [
            msgspec.structs.replace(scope, sessions=sorted(self._sessions[scope.erasure]))
            for scope in self._scopes
        ]

    def takes(self, event: Event, ms: int) -> bool:
        """Return whether an event appended at that time is of a chat, person or session that is meant."""
        if _reaches(self._of("chat", event.conversation), ms):
            return True
        if not self.seeks_people:
            return False
        if event.session is not None and _reaches(self._of("session", event.session), ms):
            return True
        return _reaches(self._naming(event), ms)

    def concerns(self, field: str, name: str) -> bool:
        """Return whether any scope is of what a field names: a conversation, session or person."""
        if field == "conversation":
            person = private_to(name)
            return bool(self._of("chat", name) or (person and self._of("user", person)))
        return bool(self._of("session" if field == "session" else "user", name))

    def learn(self, event: Event, ms: int) -> bool:
        """Take note of a session that a person of the scopes has; return whether it was news."""
        if not isinstance(event, SessionStarted) or not self.seeks_people:
            return False
        is_news = False
        for scope in self._naming(event):
            known, digest = self._sessions[scope.erasure], scope.digest(event.session)
            if ms <= scope.until_ms and digest not in known:
                known.add(digest)
                self._by_digest["session", digest].append(scope)
                is_news = True
        if is_news:
            self._remembered.clear()
        return is_news

    def _naming(self, event: Event) -> Iterator[Scope]:
        for person in people_in(event):
            for scope in self._of("user", person):
                if scope.platform in (None, platform_of(event)):
                    yield scope

    def _of(self, kind: str, name: str) -> list[Scope]:
        """Return the scopes that a name is of; digests are made once, they cost more than all else."""
        found = self._remembered.get((kind, name))
        if found is None:
            if len(self._remembered) >= REMEMBERED_NAMES:
                self._remembered.clear()
            digests = [_digest(salt, name) for salt in self._salts]
            found = [s for digest in digests for s in self._by_digest.get((kind, digest), ())]
            self._remembered[kind, name] = found
        return found


def _reaches(scopes: Iterable[Scope], ms: int) -> bool:
    return any(ms <= scope.until_ms for scope in scopes)


def people_in(event: Event) -> Iterator[str]:
    """Yield the ids of the people that an event names, and of whom its chat is."""
    if person := private_to(event.conversation):
        yield person
    for name in PERSON_FIELDS:
        value = getattr(event, name, None)
        if value is None:
            value = event.extra.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool):
            yield str(value)


def private_to(conversation: str) -> str:
    """Return whose private chat `PLATFORM:USER` would be, empty where it says no platform.

    What a bot says there names nobody else. A chat of many has an id that is no user's.
    """
    return conversation.partition(":")[2]


def platform_of(event: Event) -> str:
    """Return the platform that an event is of: what it says, else what begins its conversation."""
    platform = getattr(event, "platform", None) or event.extra.get("platform")
    return platform if isinstance(platform, str) else event.conversation.partition(":")[0]
