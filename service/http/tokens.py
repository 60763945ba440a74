"""Who may do what: bearer tokens with scopes, held as digests."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple, get_args

from eventlog.errors import ConfigurationError
from eventlog.settings import Settings
from service.http.operation import Scope

SHORTEST_TOKEN = 16
_SCOPES = frozenset(get_args(Scope)) - {"open"}
_DIGEST = re.compile(r"sha256=([0-9a-f]{64})")
_FORM = "Write SCOPES:TOKEN, as read+write:…; scopes are read, write and admin, which is all."


class Grant(NamedTuple):
    """What somebody may do."""

    digest: bytes
    """Of the token; b"" where none is needed."""
    scopes: frozenset[str]

    def allows(self, scope: Scope) -> bool:
        """Return whether it is good for a scope."""
        return scope == "open" or scope in self.scopes or "admin" in self.scopes


EVERYTHING = Grant(b"", _SCOPES)


class Tokens:
    """The tokens that are known. Without any, whoever reaches the service may do everything."""

    def __init__(self, grants: Iterable[Grant] = ()) -> None:
        self._grants = tuple(grants)

    def __bool__(self) -> bool:
        return bool(self._grants)

    @classmethod
    def of(cls, settings: Settings) -> Tokens:
        """Return those of `http_tokens` and of the file `http_tokens_file` names.

        Raises ConfigurationError.
        """
        lines = (settings.http_tokens or "").split(",")
        if settings.http_tokens_file is not None:
            path = Path(settings.http_tokens_file).expanduser()
            try:
                lines += path.read_text(encoding="utf-8").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigurationError(f"cannot read tokens from {path}: {error}.") from None
        wanted = (line.strip() for line in lines)
        return cls(_grant(line) for line in wanted if line and not line.startswith("#"))

    def find(self, token: str) -> Grant | None:
        """Return what a token is good for, None for one that is not known.

        It takes as long whichever it is, and whether or not it is one.
        """
        digest = sha256(token.encode(errors="replace")).digest()
        return self.find_mark(digest, lambda grant: grant.digest)

    def find_mark(self, mark: bytes, mark_of: Callable[[Grant], bytes]) -> Grant | None:
        """Return the grant of that mark, None where there is none; all are looked at."""
        found: Grant | None = None
        for grant in self._grants:
            if hmac.compare_digest(mark_of(grant), mark):
                found = grant
        return found

    @property
    def key(self) -> bytes:
        """A secret that all services with these tokens share, and none with others."""
        together = sha256(b"eventlog session key")
        for grant in sorted(self._grants, key=lambda each: each.digest):
            together.update(grant.digest)
        return together.digest()


def _grant(line: str) -> Grant:
    """Return what a line says, which is never repeated in an error: it holds a secret."""
    words, _, token = line.partition(":")
    scopes = frozenset(words.split("+"))
    if not token or not scopes <= _SCOPES:
        raise ConfigurationError("an HTTP token is not written as it should be.", remedy=_FORM)
    if given := _DIGEST.fullmatch(token):
        return Grant(bytes.fromhex(given[1]), scopes)
    if len(token) < SHORTEST_TOKEN:
        raise ConfigurationError(
            f"an HTTP token is shorter than {SHORTEST_TOKEN} characters.",
            remedy="Draw one: `python -c 'import secrets; print(secrets.token_urlsafe(32))'`.",
        )
    return Grant(sha256(token.encode()).digest(), scopes)
