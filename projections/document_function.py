"""A projection from a function, for folds that need no class of their own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, get_type_hints

from eventlog.entry import Entry
from eventlog.errors import ConfigurationError
from eventlog.event import Event
from projections.projection import DocumentProjection, IndexEntry

S = TypeVar("S")


def document_projection(
    *,
    key: Callable[[Any], str | None],
    initial: Callable[[str], S],
    name: str | None = None,
    version: int = 1,
    types: tuple[type[Event], ...] = (Event,),
    index: Callable[[str, S], Iterable[IndexEntry]] | None = None,
    facets: tuple[str, ...] = (),
    on_poison: str = "park",
) -> Callable[[Callable[[S, Entry], S | None]], DocumentProjection[S]]:
    """Return a decorator that makes a document projection of `apply(state, entry)`.

    Its name is the function's unless given, and the state's type what the function is annotated to
    return. Raises ConfigurationError where it is not annotated.

    >>> @document_projection(key=lambda event: event.conversation, initial=lambda key: 0)
    ... def events_per_chat(count: int, entry: Entry) -> int:
    ...     return count + 1
    >>> events_per_chat.model
    'events_per_chat@1'
    """

    def decorate(apply: Callable[[S, Entry], S | None]) -> DocumentProjection[S]:
        members = {
            "name": name or apply.__name__,
            "version": version,
            "types": types,
            "facets": facets,
            "on_poison": on_poison,
            "state_type": _state_type(apply),
            "key": lambda _self, event: key(event),
            "initial": lambda _self, document_key: initial(document_key),
            "apply": lambda _self, state, entry: apply(state, entry),
            "__doc__": inspect.getdoc(apply),
            "__module__": apply.__module__,
        }
        if index is not None:
            members["index"] = lambda _self, document_key, state: index(document_key, state)
        made: DocumentProjection[S] = type(apply.__name__, (DocumentProjection,), members)()
        return made

    return decorate


def _state_type(apply: Callable[..., Any]) -> Any:
    hint = get_type_hints(apply).get("return")
    if hint is None:
        raise ConfigurationError(
            f"{apply.__name__} does not say what it returns.",
            remedy="Annotate it: `def apply(state: int, entry: Entry) -> int`.",
        )
    return hint
