"""What left the read models in Redis: documents as they were, in a SQLite file beside the archive.

A build's departures are numbered. A departure is written here first, durably, and then taken out of
Redis under its number, in one step that also says which number was the last: whoever finds the number
in Redis higher than the one here has not got the file that belongs to the log. What is both here and
there counts as there.

The file is made of the log like all read models. Lost, it is made again by a rebuild. Every process
that reads or projects must see it, as it must see the archive. Synchronous: call it from a thread.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import msgspec

from eventlog.errors import HistoryGap
from projections.projection import IndexEntry

BUSY_TIMEOUT_S = 10.0
"""How long one process waits for another's write, which takes milliseconds."""

LAST_KEY = "\U0010ffff"
"""At or above any key that is text."""


class Place(NamedTuple):
    """A build in a partition."""

    partition: int
    model: str


class Departed(NamedTuple):
    """A document or feed that left."""

    number: int
    """Of the departure that it left with last."""
    body: bytes | None
    """As it was stored; None where it is deleted."""
    indexed: tuple[IndexEntry, ...]
    """The lists that it was in."""


class Leaving(NamedTuple):
    """A document or feed about to leave."""

    key: str
    body: bytes | None
    indexed: Sequence[IndexEntry] = ()
    is_feed: bool = False


class DepartedItem(NamedTuple):
    """A document of a page."""

    key: str
    score: float
    body: bytes


class DepartedFile:
    """The file of one log. Every call raises HistoryGap where the file cannot be read or written.

    `at_least`, where it is asked for, is a number of departures that Redis has told: HistoryGap where
    there are fewer here.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, int, int] | None = None
        self._inherited: list[sqlite3.Connection] = []
        """Of the process that this one was forked from: not ours to close."""

    def __del__(self) -> None:
        if self._connection is not None and self._opened and self._opened[0] == os.getpid():
            self._connection.close()

    # --- reading ---------------------------------------------------------------------------------

    def number(self, place: Place, at_least: int = 0) -> int:
        """Return the number of the last departure of a build, 0 where nothing left."""
        with self._reading() as connection:
            return self._build(connection, place, at_least)[1]

    def find(self, place: Place, keys: Collection[str], at_least: int) -> dict[str, Departed]:
        """Return what is known of some keys, those left out of which nothing is."""
        with self._reading() as connection:
            build, _ = self._build(connection, place, at_least)
            if build is None or connection is None:
                return {}
            return _find(connection, build, keys)

    def page(
        self,
        place: Place,
        index: str,
        limit: int,
        after: tuple[float, str] | None,
        lowest: float,
        at_least: int,
    ) -> tuple[int, list[DepartedItem]]:
        """Return the number of departures, and up to `limit` documents of an index below `after`.

        By (score, key) from the highest down, none below the score `lowest`. Some may be back in Redis.
        """
        score, key = after if after is not None else (float("inf"), LAST_KEY)
        with self._reading() as connection:
            build, number = self._build(connection, place, at_least)
            if build is None or connection is None:
                return number, []
            found = connection.execute(
                _sql("page"),
                {
                    "build": build,
                    "name": index,
                    "lowest": lowest,
                    "score": score,
                    "key": key,
                    "limit": limit,
                },
            )
            return number, [DepartedItem(*row) for row in found]

    def keys(self, place: Place, *, are_feeds: bool) -> set[str]:
        """Return the names of a build's feeds, or the keys of its documents that are not deleted."""
        with self._reading() as connection:
            build, _ = self._build(connection, place, 0)
            if build is None or connection is None:
                return set()
            found = connection.execute(
                "SELECT key FROM departed WHERE build = ? AND is_feed = ? AND body IS NOT NULL",
                (build, are_feeds),
            )
            return {key for (key,) in found}

    def indexes(self, place: Place) -> set[str]:
        """Return the names of a build's indexes that have any document."""
        with self._reading() as connection:
            build, _ = self._build(connection, place, 0)
            if build is None or connection is None:
                return set()
            found = connection.execute(
                "SELECT DISTINCT name FROM indexed WHERE build = ?", (build,)
            )
            return {name for (name,) in found}

    # --- writing ---------------------------------------------------------------------------------

    def put(self, place: Place, leaving: Iterable[Leaving], expected: int) -> bool:
        """Note the departure after number `expected`, durably.

        False, and nothing is noted, where that is not the last one: somebody else was here.
        """
        with self._writing() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO build (partition, model) VALUES (?, ?)", place
            )
            build, last = self._build(connection, place, 0)
            assert build is not None
            if last != expected:
                return False
            rows = list(leaving)
            _unlist(connection, build, [row.key for row in rows])
            number = expected + 1
            connection.executemany(
                _sql("put"),
                [
                    {
                        "build": build,
                        "key": row.key,
                        "number": number,
                        "body": row.body,
                        "is_feed": row.is_feed,
                        "indexed": msgspec.json.encode(row.indexed).decode(),
                    }
                    for row in rows
                ],
            )
            connection.executemany(
                "INSERT INTO indexed (build, name, score, key) VALUES (?, ?, ?, ?)",
                [(build, name, score, row.key) for row in rows for name, score in row.indexed],
            )
            connection.execute("UPDATE build SET number = ? WHERE id = ?", (number, build))
        return True

    def unlist(self, place: Place, keys: Collection[str], number: int) -> None:
        """Take documents that are back in Redis out of the indexes here, which saves looking at them.

        Those that left again after a number of departures stay.
        """
        with self._writing() as connection:
            build, _ = self._build(connection, place, 0)
            if build is not None:
                known = _find(connection, build, keys)
                _unlist(connection, build, [k for k, row in known.items() if row.number <= number])

    def builds(self, projection: str) -> list[Place]:
        """Return the builds of a projection that anything ever left."""
        with self._reading() as connection:
            found = connection.execute("SELECT partition, model FROM build") if connection else ()
            places = [Place(*row) for row in found]
        return [place for place in places if place.model.partition("@")[0] == projection]

    def forget(self, places: Collection[Place]) -> None:
        """Delete what is noted of some builds, and overwrite it on the disk."""
        with self._writing() as connection:
            for place in places:
                build, _ = self._build(connection, place, 0)
                for statement in (
                    "DELETE FROM indexed WHERE build = ?",
                    "DELETE FROM departed WHERE build = ?",
                    "DELETE FROM build WHERE id = ?",
                ):
                    connection.execute(statement, (build,))

    # --- the connection --------------------------------------------------------------------------

    def _build(
        self, connection: sqlite3.Connection | None, place: Place, at_least: int
    ) -> tuple[int | None, int]:
        """Return a build's id and its number of departures."""
        found = None
        if connection is not None:
            found = connection.execute(
                "SELECT id, number FROM build WHERE partition = ? AND model = ?", place
            ).fetchone()
        build, number = found or (None, 0)
        if number < at_least:
            raise HistoryGap(
                f"{at_least} times documents of {place.model} left Redis from partition "
                f"{place.partition}, and {self.path} knows of {number}.",
                remedy="Name the archive directory that belongs to this log, which all its programs "
                "share, or make the read model anew: `eventlog projections rebuild`.",
            )
        return build, number

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection | None]:
        """Give a connection that sees one moment; None where there is no file."""
        with self._lock, self._sound():
            try:
                connection = self._open(self.path.stat())
            except FileNotFoundError:
                yield None
                return
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.execute("ROLLBACK")

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Give a connection whose changes are there together and durable, or not at all."""
        with self._lock, self._sound():
            if not self.path.exists():
                self._create()
            connection = self._open(self.path.stat())
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def _create(self) -> None:
        """Make the file beside its name first, so that nobody sees one without tables."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        staged = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        staged.unlink(missing_ok=True)
        connection = sqlite3.connect(staged)
        try:
            connection.executescript(_sql("schema"))
        finally:
            connection.close()
        try:
            os.link(staged, self.path)
        except FileExistsError:  # another process made it
            pass
        finally:
            staged.unlink()
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _open(self, stat: os.stat_result) -> sqlite3.Connection:
        """Return the connection to the file that has the name now, in this process."""
        wanted = os.getpid(), stat.st_dev, stat.st_ino
        if self._connection is not None and self._opened != wanted:
            if self._opened and self._opened[0] == wanted[0]:
                self._connection.close()
            else:
                self._inherited.append(self._connection)
            self._connection = None
        if self._connection is None:
            self._connection = sqlite3.connect(
                self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute("PRAGMA secure_delete = ON")
            self._opened = wanted
        return self._connection

    @contextmanager
    def _sound(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise HistoryGap(
                f"{self.path}, which has what left the read models, cannot be used: {error}.",
                remedy="See to the disk. A damaged file: delete it, then make the read models anew: "
                "`eventlog projections rebuild`.",
            ) from error


def _find(connection: sqlite3.Connection, build: int, keys: Collection[str]) -> dict[str, Departed]:
    wanted = {"build": build, "keys": msgspec.json.encode(list(keys)).decode()}
    return {
        key: Departed(number, body, _entries(indexed))
        for key, number, body, indexed in connection.execute(_sql("find"), wanted)
    }


def _unlist(connection: sqlite3.Connection, build: int, keys: Collection[str]) -> None:
    known = _find(connection, build, keys)
    connection.executemany(
        "DELETE FROM indexed WHERE build = ? AND name = ? AND score = ? AND key = ?",
        [(build, name, score, key) for key, row in known.items() for name, score in row.indexed],
    )


def _entries(indexed: str) -> tuple[IndexEntry, ...]:
    return msgspec.json.decode(indexed, type=tuple[tuple[str, float], ...])


@cache
def _sql(name: str) -> str:
    return files("projections").joinpath("queries", f"departed_{name}.sql").read_text("utf-8")
