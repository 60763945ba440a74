"""One dead letter on a page."""

from __future__ import annotations

from typing import Any

import msgspec

from projections.views.dead_letters import DeadLetter
from service.cli.output import cell, clean, console, moment, print_table

NAME_WIDTH = 14


def print_letter(letter: DeadLetter, payload: Any) -> None:
    """Print everything about a letter; texts whole, however long."""
    for name, value in (
        ("letter", letter.letter),
        ("status", _status(letter)),
        ("conversation", letter.conversation),
        ("session", letter.session),
        ("group", letter.group),
        ("reason", letter.reason),
        ("error", letter.error),
        ("attempts", letter.attempts),
        ("replays", letter.replay_count or None),
        ("recipient", letter.recipient),
        ("reply to", letter.reply_to),
        ("origin", letter.origin),
        ("parked (UTC)", moment(letter.parked_at)),
        ("asked (UTC)", moment(letter.requested_at)),
        ("ended (UTC)", moment(letter.settled_at)),
    ):
        if value is not None:
            shown = clean(value) if isinstance(value, str) else cell(value)
            _print(f"{name:<{NAME_WIDTH}}{shown}")
    if letter.text is not None:
        _section("text", letter.text)
    if letter.failures:
        console.print("\nattempts that failed")
        rows = [(f.attempt, moment(f.failed_at), f.code, f.error) for f in letter.failures]
        print_table(("attempt", "time (UTC)", "code", "error"), rows)
    if letter.traceback is not None:
        _section("traceback", letter.traceback)
    if payload is not None:
        _section("payload", _as_text(payload))
    elif letter.origin is not None:
        _print("\nThe entry itself is neither in the log nor in the archive.")


def _status(letter: DeadLetter) -> str:
    if letter.status != "replaying":
        return letter.status
    return f"replaying, by {letter.runner or f'group {letter.group}'}"


def _as_text(payload: Any) -> str:
    if isinstance(payload, str):
        return payload
    return msgspec.json.format(msgspec.json.encode(payload), indent=2).decode()


def _section(title: str, text: str) -> None:
    """Print a text of several lines, indented as it is, with nothing in it that steers a terminal."""
    console.print(f"\n{title}")
    for line in text.splitlines():
        indent = len(line) - len(line.lstrip())
        _print(f"  {' ' * indent}{clean(line)}".rstrip())


def _print(line: str) -> None:
    console.print(line, markup=False, emoji=False, soft_wrap=True)
