"""Named reports: the ones that come with the product, and those in a directory of yours.

>>> report = Reports([Path("my-reports")]).get("tools")
>>> table = await warehouse.query(*question(report, {"since": "7d"}, log.clock.now_us()))
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import duckdb

from analytics.report_header import Parameter, Report, parse_report
from analytics.report_values import Value, naive_utc, value_of
from eventlog.errors import ConfigurationError, InvalidQuery

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


class Reports:
    """The reports there are, by name. One of your own takes the place of ours of its name.

    Files are read when one is asked for; a directory that is not there holds none.
    """

    def __init__(self, folders: Sequence[Path] = ()) -> None:
        self._folders = folders

    def names(self) -> list[str]:
        """Return the names of all, sorted. Raises ConfigurationError where a folder is unreadable."""
        return sorted(self._files())

    def all(self) -> list[Report]:
        """Return all, by name. Raises ConfigurationError where a header is wrong."""
        found = self._files()
        return [_read(name, found[name]) for name in sorted(found)]

    def get(self, name: str) -> Report:
        """Return the report of that name. Raises InvalidQuery, naming those there are."""
        found = self._files()
        if name not in found:
            raise InvalidQuery(
                f"there is no report {name!r}{_meant(name, found)}.",
                remedy=f"Reports: {', '.join(sorted(found))}.",
            )
        return _read(name, found[name])

    def _files(self) -> dict[str, Traversable]:
        ours: Traversable = files("analytics").joinpath("queries", "reports")
        found: dict[str, Traversable] = {}
        for folder in (ours, *(folder for folder in self._folders if folder.is_dir())):
            found.update(_sql_files(folder))
        return found


def question(report: Report, given: Mapping[str, Any], now_us: int) -> tuple[str, dict[str, Value]]:
    """Return the report's SQL and the value of each of its parameters.

    `given` has texts as people write them, or values of the parameter's own type; `now_us` is what
    ages count from. Raises InvalidQuery for a name that the report does not have, a value that does
    not fit, or one that is missing.
    """
    known = {parameter.name: parameter for parameter in report.parameters}
    for name in given:
        if name not in known:
            takes = f"It takes: {', '.join(known)}." if known else "It takes none."
            raise InvalidQuery(
                f"report {report.name!r} has no parameter {name!r}{_meant(name, known)}.",
                remedy=takes,
            )
    missing = [p.name for p in report.parameters if p.is_required and given.get(p.name) is None]
    if missing:
        raise InvalidQuery(
            f"report {report.name!r} needs a value for {', '.join(missing)}.",
            remedy=f"For example: {missing[0]}=VALUE.",
        )
    return report.sql, {
        name: _fitting(parameter, given[name], now_us) if name in given else parameter.default
        for name, parameter in known.items()
    }


def said(report: Report, values: Mapping[str, Value]) -> str:
    """Return in words what was asked for: a picture and a table say it below their title."""
    shown = [
        f"{name} {value:%Y-%m-%d %H:%M} UTC" if isinstance(value, datetime) else f"{name} {value}"
        for name, value in values.items()
        if value is not None
    ]
    return ", ".join(shown) if shown else "all there is" if report.parameters else ""


def _fitting(parameter: Parameter, given: Any, now_us: int) -> Value:
    kind = parameter.kind
    try:
        if given is None:
            return None
        if isinstance(given, str):
            return value_of(kind, given, now_us)
        if kind == "time" and isinstance(given, date):
            as_time = given if isinstance(given, datetime) else datetime.fromisoformat(str(given))
            return naive_utc(as_time)
        # What Python prints of it reads back as the same value, or does not fit.
        return value_of(kind, str(given), now_us)
    except ValueError as error:
        raise InvalidQuery(f"{parameter.name}={given!s} {error}.") from None


def _sql_files(folder: Traversable) -> Iterator[tuple[str, Traversable]]:
    try:
        listed = list(folder.iterdir())
    except OSError as error:
        raise ConfigurationError(f"cannot read {folder}: {error.strerror}.") from None
    for file in listed:
        name, _, suffix = file.name.rpartition(".")
        if suffix == "sql" and not name.startswith("."):
            if not _NAME.fullmatch(name):
                raise ConfigurationError(
                    f"{folder}: {file.name!r} cannot name a report.",
                    remedy="Use small letters, digits, `-` and `_`.",
                )
            yield name, file


def _read(name: str, file: Traversable) -> Report:
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"cannot read {file}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{file} is not UTF-8.") from None
    return _checked(name, text, str(file))


@cache
def _checked(name: str, text: str, place: str) -> Report:
    """Return the report in the text, whose header and SQL agree about the parameters."""
    report = parse_report(name, text, place)
    try:
        with duckdb.connect(":memory:") as parser:
            statements = parser.extract_statements(text)
    except duckdb.Error as error:
        raise ConfigurationError(f"{place}: {error}") from None
    if len(statements) != 1:
        raise ConfigurationError(f"{place}: a report is one statement, not {len(statements)}.")
    used = statements[0].named_parameters
    said = {parameter.name for parameter in report.parameters}
    if used != said:
        raise ConfigurationError(
            f"{place}: the header's parameters are {_listed(said)}, those of the SQL {_listed(used)}.",
            remedy="Each `$name` needs a `-- parameter:` line, and the other way round.",
        )
    return report


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _meant(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), 1)
    return f"; {close[0]!r}, perhaps" if close else ""
