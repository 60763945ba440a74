"""The header of a report's SQL file: what it is called, what it takes, what a picture shows. Pure.

    -- title: Messages per chat and day
    -- description: What was said in each chat on each UTC day,
    --     in and out.
    -- parameter: since time = none: only messages from this time on
    -- parameter: top integer = 10: how many chats
    -- plot: line x=day y=messages by=conversation unit=messages
    SELECT … WHERE $since IS NULL OR occurred_at >= $since LIMIT $top

The header is the comment that the file begins with. A line that is indented further goes on the one
before it. `plot` may be left out, and so may a parameter's default: then it has to be given.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Literal, NamedTuple, cast, get_args

from analytics.report_values import Kind, Value, value_of
from eventlog.errors import ConfigurationError

PlotKind = Literal["line", "bars", "rows", "points"]
"""Values over time; columns side by side; bars lying below each other; single points over time."""

_LINE = re.compile(r"-- (title|description|parameter|plot):\s+(.*)")
_PARAMETER = re.compile(
    r"(?P<name>[a-z][a-z0-9_]*) (?P<kind>[a-z]+)(?: = (?P<default>[^:\s]\S*?))?: (?P<about>.+)"
)
_FORM = "-- parameter: NAME TYPE = DEFAULT: what it means"


class Parameter(NamedTuple):
    """Something a report can be asked with: `$name` in its SQL."""

    name: str
    kind: Kind
    about: str
    default: Value
    is_required: bool


class Plot(NamedTuple):
    """Which columns a picture shows, and how."""

    kind: PlotKind
    x: str
    """The column of times or categories."""
    y: tuple[str, ...]
    """The columns of values; several are series of their own."""
    by: str | None = None
    """The column whose values are series of their own."""
    unit: str = ""
    is_log: bool = False
    is_stacked: bool = False
    sums_rest: bool = False
    """Series beyond those that a picture has room for are added up, instead of left out."""


class Report(NamedTuple):
    """A named query with parameters."""

    name: str
    title: str
    description: str
    parameters: tuple[Parameter, ...]
    plot: Plot | None
    sql: str
    """The whole file."""


def parse_report(name: str, text: str, place: str = "") -> Report:
    """Return the report in a file's text; `place` is the file's name in errors.

    Raises ConfigurationError where the header says too little, or something that we do not know.
    """
    place = place or f"{name}.sql"
    found: Counter[str] = Counter()
    said: dict[str, str] = {}
    parameters: dict[str, Parameter] = {}
    plot = None
    for number, key, value in _header(text, place):
        where = f"{place}:{number}"
        found[key] += 1
        if key == "parameter":
            parameter = _parameter(value, where)
            if parameter.name in parameters:
                raise _fault(where, f"parameter {parameter.name!r} is there twice.")
            parameters[parameter.name] = parameter
        elif found[key] > 1:
            raise _fault(where, f"{key!r} is there twice.")
        elif key == "plot":
            plot = _plot(value, where)
        else:
            said[key] = value
    if "title" not in said:
        raise _fault(place, "the header has no title.", "Begin the file with `-- title: …`.")
    return Report(
        name,
        said["title"],
        said.get("description", ""),
        tuple(parameters.values()),
        plot,
        text,
    )


def _header(text: str, place: str) -> Iterator[tuple[int, str, str]]:
    """Yield line number, key and value of each entry, its continued lines joined."""
    number, key, value = 0, "", ""
    for current, line in enumerate(text.splitlines(), 1):
        if not line.startswith("--"):
            break
        match = _LINE.fullmatch(line.rstrip())
        if match:
            if key:
                yield number, key, value
            number, key, value = current, match[1], match[2]
        elif line.startswith("--  ") and key:
            value = f"{value} {line[2:].strip()}"
        elif line.strip("- "):
            raise _fault(
                f"{place}:{current}",
                f"{line!r} is no part of a header.",
                "A header has `-- title:`, `-- description:`, `-- parameter:` and `-- plot:`; other "
                "comments stand below the first line of SQL.",
            )
    if key:
        yield number, key, value


def _parameter(text: str, where: str) -> Parameter:
    match = _PARAMETER.fullmatch(text)
    if match is None:
        raise _fault(where, f"{text!r} is no parameter.", f"Write `{_FORM}`.")
    name, kind, default, about = match.group("name", "kind", "default", "about")
    if kind not in get_args(Kind):
        raise _fault(where, f"{kind!r} is no type.", f"Types: {', '.join(get_args(Kind))}.")
    value: Value = None
    if default not in (None, "none"):
        try:
            value = value_of(cast("Kind", kind), default, now_us=0)
        except ValueError as error:
            raise _fault(where, f"the default {default!r} {error}.") from None
    return Parameter(name, cast("Kind", kind), about, value, default is None)


def _plot(text: str, where: str) -> Plot:
    kind, *words = text.split()
    if kind not in get_args(PlotKind):
        raise _fault(where, f"{kind!r} is no plot.", f"Plots: {', '.join(get_args(PlotKind))}.")
    pairs = dict(word.partition("=")[::2] for word in words)
    x, y = pairs.pop("x", ""), pairs.pop("y", "")
    by, unit = pairs.pop("by", None), pairs.pop("unit", "")
    is_log = pairs.pop("scale", "linear") == "log"
    is_stacked = pairs.pop("stacked", None) is not None
    sums_rest = pairs.pop("rest", "") == "sum"
    if pairs or not x or not y:
        wrong = f"does not know {', '.join(pairs)}" if pairs else "names no x or no y"
        raise _fault(
            where,
            f"the plot {wrong}.",
            "Write `-- plot: KIND x=COLUMN y=COLUMN,COLUMN` and as needed `by=COLUMN unit=WORD "
            "scale=log rest=sum stacked`.",
        )
    return Plot(
        cast("PlotKind", kind), x, tuple(y.split(",")), by, unit, is_log, is_stacked, sums_rest
    )


def _fault(where: str, what: str, remedy: str = "") -> ConfigurationError:
    return ConfigurationError(f"{where}: {what}", remedy=remedy)
