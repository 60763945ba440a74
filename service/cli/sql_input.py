"""What is typed into the SQL shell: where a statement ends, and which lines are commands. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import duckdb

_COMMENT = duckdb.token_type.comment


class Piece(NamedTuple):
    """A statement with its `;`, or a line that begins with a dot."""

    text: str
    is_command: bool
    is_finished: bool
    """False for a statement that the text ends in the middle of."""


def pieces(text: str) -> Iterator[Piece]:
    """Yield what is in the text one after the other; comments and empty statements are left out.

    DuckDB's own lexer finds the end, so a `;` in a string, a name or a comment ends nothing.
    """
    rest = text.encode(errors="replace")  # the lexer counts bytes
    while rest.strip():
        tokens = [(at, kind) for at, kind in duckdb.tokenize(rest.decode()) if kind != _COMMENT]
        if not tokens:
            return
        rest = rest[tokens[0][0] :]
        if rest.startswith(b"."):
            line, _, rest = rest.partition(b"\n")
            yield Piece(line.decode().strip(), is_command=True, is_finished=True)
            continue
        start = tokens[0][0]
        end = next(
            (at - start for at, _ in tokens if rest[at - start : at - start + 1] == b";"), -1
        )
        if end < 0:
            yield Piece(rest.decode().strip(), is_command=False, is_finished=False)
            return
        statement, rest = rest[: end + 1], rest[end + 1 :]
        if end > 0:
            yield Piece(statement.decode(), is_command=False, is_finished=True)


def is_finished(text: str) -> bool:
    """Return whether Enter runs the text, instead of beginning another line."""
    return all(piece.is_finished for piece in pieces(text))
