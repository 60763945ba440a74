"""Names within a conversation, as one name that no other pair shares. Pure."""

from __future__ import annotations


def scoped(conversation: str, name: str) -> str:
    """Return one name for what `name` is in a conversation; either may hold any character.

    >>> scoped("telegram:42", "main")
    '11:telegram:42:main'
    """
    return f"{len(conversation)}:{conversation}:{name}"


def conversation_of(key: str) -> str:
    """Return the conversation that `scoped` was given."""
    length, _, rest = key.partition(":")
    return rest[: int(length)]
