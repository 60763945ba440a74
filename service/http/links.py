"""Paths of things, as links have them. Pure."""

from __future__ import annotations

from urllib.parse import quote


def segment(text: str) -> str:
    """Return an id as one segment of a path.

    >>> segment("irc:#mediawiki/help")
    'irc:%23mediawiki%2Fhelp'
    """
    # A lone dot or two would be taken for a step in the path by clients.
    return quote(text, safe=":@") if text.strip(".") else text.replace(".", "%2E")


def session_link(session: str) -> str:
    """Return the path of a session."""
    return f"/v1/sessions/{segment(session)}"


def conversation_link(conversation: str) -> str:
    """Return the path of a conversation."""
    return f"/v1/conversations/{segment(conversation)}"
