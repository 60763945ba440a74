"""Who may use the bot, by platform."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping

from eventlog.errors import ConfigurationError, UnknownPlatform, UserNotAllowed
from eventlog.logs import get_logger

User = str | int
"""Ids of users, which are compared as text."""

MayUse = Callable[[str], bool | Awaitable[bool]]
"""Says of a user's id whether he may, at once or by awaiting."""

Allowed = Iterable[User] | MayUse | None
"""Users, or a function that knows them; None is everybody."""

_log = get_logger("bridge")


class AllowLists:
    """The users allowed on each platform. As long as no platform is named, all are open to everybody.

    >>> allowed = AllowLists({"telegram": {7, "8"}, "discord": None})
    >>> await allowed.allows("telegram", "7")
    True
    """

    def __init__(self, platforms: Mapping[str, Allowed] | None = None) -> None:
        """Raise ConfigurationError for what is no list of users."""
        self._by_platform: dict[str, frozenset[str] | MayUse | None] = {}
        for platform, users in (platforms or {}).items():
            self.allow(platform, users)

    def allow(self, platform: str, users: Allowed = None) -> None:
        """Let these users of a platform in, in place of those named before.

        `users` may be a function of the user's id, plain or async; if it fails, the user is refused
        and `allow_check_failed` is logged. Raises ConfigurationError for what is no list of users.
        """
        if not isinstance(platform, str) or not platform:
            raise ConfigurationError(f"{platform!r} is no platform.", remedy='Say "telegram".')
        self._by_platform[platform] = _checked(platform, users)

    async def allows(self, platform: str, user: User) -> bool:
        """Return whether a user of a platform may use the bot. Raises UnknownPlatform.

        A refusal is logged as `user_not_allowed`, at debug level.
        """
        if platform not in self._by_platform:
            if not self._by_platform:
                return True
            raise UnknownPlatform(
                f"the bridge knows no platform {platform!r}, only"
                f" {', '.join(map(repr, self._by_platform))}.",
                remedy=f"Call `bridge.allow({platform!r})`, or name it in `platforms=`.",
            )
        users, name = self._by_platform[platform], str(user)
        is_allowed = (
            await _asked(users, platform, name)
            if callable(users)
            else (users is None or name in users)
        )
        if not is_allowed:
            _log.debug("user_not_allowed", platform=platform, user=name)
        return is_allowed

    async def check(self, platform: str, user: User) -> None:
        """Return if the user may use the bot. Raises UserNotAllowed, UnknownPlatform."""
        if not await self.allows(platform, user):
            raise UserNotAllowed(platform, str(user))


def _checked(platform: str, users: Allowed) -> frozenset[str] | MayUse | None:
    if users is None or callable(users):
        return users
    # A text is a collection of letters, and a mapping one of keys; neither is ever meant.
    if isinstance(users, Iterable) and not isinstance(users, str | bytes | Mapping):
        listed = list(users)
        if all(isinstance(user, str | int) and not isinstance(user, bool) for user in listed):
            return frozenset(map(str, listed))
    raise ConfigurationError(
        f"those allowed on {platform!r} are no list of user ids: {type(users).__name__}.",
        remedy='Give a set of texts or numbers, such as {"7", "8"}, a function, or None for everybody.',
    )


async def _asked(may_use: MayUse, platform: str, user: str) -> bool:
    try:
        answer = may_use(user)
        return bool(await answer if inspect.isawaitable(answer) else answer)
    except Exception as error:  # noqa: BLE001 - it is not ours, and must not stop other messages
        _log.warning("allow_check_failed", platform=platform, user=user, error=repr(error))
        return False
