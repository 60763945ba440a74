"""What may stand next in the SQL shell. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

_WORD = re.compile(r"\.?[A-Za-z_][A-Za-z0-9_]*\Z|\.\Z")
_AFTER_SOURCE = re.compile(
    r"\b(?:from|join|describe|summarize)\s+(?:[\w\"]*,\s*)*\w*\Z", re.IGNORECASE
)


class Vocabulary(NamedTuple):
    """The words there are."""

    columns: Mapping[str, Sequence[str]]
    """Of each view."""
    keywords: Collection[str]
    functions: Collection[str]
    commands: Mapping[str, str]
    """Dot-commands, each with what it does."""
    reports: Collection[str]


class Candidate(NamedTuple):
    """A word that may stand at the cursor, and what it is."""

    word: str
    about: str


def word_before(text: str) -> str:
    """Return the beginning of the word that the cursor is in."""
    match = _WORD.search(text)
    return match[0] if match else ""


def candidates(before: str, whole: str, words: Vocabulary) -> Iterator[Candidate]:
    """Yield what may complete the text before the cursor, the likeliest first.

    Behind FROM and JOIN that is a view; elsewhere a column of the views named anywhere in the
    statement (of all, while there is none), then views, keywords and functions.
    """
    prefix = word_before(before).lower()
    if before.lstrip().startswith("."):
        yield from _of_command(before.lstrip(), words)
        return
    groups: list[Iterable[Candidate]] = [_views(words)]
    if not _AFTER_SOURCE.search(before):
        if not prefix:
            return  # everything would fit
        groups = [
            _columns(whole, words),
            _views(words),
            (Candidate(word, "keyword") for word in sorted(words.keywords)),
            (Candidate(f"{word}(", "function") for word in sorted(words.functions)),
        ]
    yield from _starting(prefix, groups)


def _of_command(line: str, words: Vocabulary) -> Iterator[Candidate]:
    command, blank, rest = line.partition(" ")
    if not blank:
        commands = [Candidate(name, about) for name, about in words.commands.items()]
        yield from _starting(command, [commands])
    elif command == ".schema":
        yield from _starting(rest, [_views(words)])
    elif command == ".report" and " " not in rest:
        yield from _starting(rest, [(Candidate(name, "report") for name in words.reports)])


def _starting(prefix: str, groups: Iterable[Iterable[Candidate]]) -> Iterator[Candidate]:
    seen = set()
    for candidate in (each for group in groups for each in group):
        key = candidate.word.lower()
        if key.startswith(prefix.lower()) and key not in seen:
            seen.add(key)
            yield candidate


def _views(words: Vocabulary) -> Iterator[Candidate]:
    return (Candidate(view, "view") for view in words.columns)


def _columns(whole: str, words: Vocabulary) -> Iterator[Candidate]:
    said = set(re.findall(r"\w+", whole.lower()))
    views = [view for view in words.columns if view in said] or list(words.columns)
    return (Candidate(name, view) for view in views for name in words.columns[view])
