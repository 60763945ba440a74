"""Which projections there are: the built-in ones, and those that packages or a command name.

A package offers its own by an entry point:

    [project.entry-points."eventlog.projections"]
    tools = "shop.views:Tools"

The object is a projection, a class of one, or a list of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.metadata import entry_points
from typing import Any

from eventlog.errors import ConfigurationError
from eventlog.event import Event
from eventlog.loading import import_object
from eventlog.vocabulary import VOCABULARY
from projections.builtin import DEFAULT_PROJECTIONS
from projections.projection import Projection, check_projections

ENTRY_POINT_GROUP = "eventlog.projections"


def load_projections(named: Iterable[str] = ()) -> tuple[Projection, ...]:
    """Return the built-in projections, those of entry points, and those named `module:object`.

    Modules are looked for in the working directory as well. Raises ConfigurationError for one that
    cannot be loaded or is no projection, and for two of one name.
    """
    found: list[Projection] = list(DEFAULT_PROJECTIONS)
    for point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda p: p.name):
        found += _loaded(f"entry point {point.name!r} ({point.value})", point.load)
    for name in named:
        found += _loaded(repr(name), lambda name=name: import_object(name))
    check_projections(found)
    return tuple(found)


def find_projection(projections: Sequence[Projection], name: str) -> Projection:
    """Return the projection of that name; `name@version` is accepted for the version at hand.

    Raises ConfigurationError for another.
    """
    for projection in projections:
        if name in (projection.name, projection.model):
            return projection
    raise ConfigurationError(
        f"there is no projection {name!r}.",
        remedy=f"Known: {', '.join(sorted(p.model for p in projections))}.",
    )


def event_types_of(projections: Iterable[Projection]) -> list[type[Event]]:
    """Return the event types that projections are shown beyond the built-in vocabulary."""
    known = {Event, *VOCABULARY}
    wanted = {each for projection in projections for each in projection.types} - known
    return sorted(
        (each for each in wanted if each.__struct_config__.tag is not None),
        key=lambda each: str(each.__struct_config__.tag),
    )


def _loaded(source: str, load: Any) -> list[Projection]:
    try:
        loaded = load()
        made = [_made(each) for each in (loaded if isinstance(loaded, list | tuple) else [loaded])]
    except Exception as error:  # anybody's code is run by loading it
        raise ConfigurationError(
            f"projection {source} cannot be loaded: {type(error).__name__}: {error}."
        ) from error
    for each in made:
        if not isinstance(each, Projection):
            raise ConfigurationError(
                f"{source} is {type(each).__name__}, no projection.",
                remedy="Name a DocumentProjection, a FeedProjection, a class of one, or a list.",
            )
    return made


def _made(loaded: Any) -> Any:
    return loaded() if isinstance(loaded, type) and issubclass(loaded, Projection) else loaded
