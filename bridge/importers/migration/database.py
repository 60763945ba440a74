"""A SQLite file as it was at one moment, read without disturbing whoever writes it.

A database in WAL mode is read in one transaction, which nobody waits for. In the other modes a reader
holds writers up, so such a file is copied in one go, a second for a gigabyte, and the copy is read.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from eventlog.errors import ImportFailed

MAGIC = b"SQLite format 3\x00"
SUFFIXES = frozenset({".db", ".sqlite", ".sqlite3", ".db3"})
LOCK_WAIT_S = 5.0
"""How long another program's exclusive lock is waited out."""

_BESIDE = ("-wal", "-shm", "-journal")


class Table(NamedTuple):
    """A table of the file. `position` is the column that holds a row's number, None for none."""

    name: str
    columns: list[str]
    position: str | None
    key: str | None
    """The column that is the row's number under a name of its own."""
    row_count: int


def is_database(path: Path) -> bool:
    """Return whether the file begins as a SQLite database does. Raises ImportFailed."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError as error:
        raise ImportFailed(f"{path} cannot be read: {error}.") from None


def belongs_to_database(path: Path) -> bool:
    """Return whether the file is a database's own, which SQLite reads along with it."""
    for suffix in _BESIDE:
        if path.name.endswith(suffix):
            return path.with_name(path.name.removesuffix(suffix)).is_file()
    return False


def not_a_database(path: Path) -> ImportFailed:
    """Return the error for a file that is called a database and is none."""
    if path.stat().st_size == 0:
        return ImportFailed(
            f"{path} is empty.", remedy="Name the file that the bridge really writes."
        )
    return ImportFailed(
        f"{path} is no SQLite database: its header is another's, or it is encrypted.",
        remedy="Decrypt it first, with the program that made it.",
    )


@contextmanager
def snapshot(path: Path) -> Iterator[sqlite3.Connection]:
    """Give a connection that sees the file as it is now, whatever is written meanwhile.

    The file is opened read-only. Raises ImportFailed, also for faults met while reading.
    """
    with ExitStack() as stack, _faults_of(path):
        connection = stack.enter_context(closing(_open(path)))
        if _journal_mode(connection) != "wal":
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="eventlog-import-"))
            copied = Path(folder) / "snapshot.db"
            with closing(sqlite3.connect(copied)) as target:
                connection.backup(target)
            connection = stack.enter_context(closing(_open(copied)))
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # fixes the moment
        yield connection


def tables(connection: sqlite3.Connection) -> list[Table]:
    """Return the tables that somebody made, by name, without views and SQLite's own."""
    found = []
    listed = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' "
        "ORDER BY name"
    ).fetchall()
    for (name,) in listed:
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({quoted(name)})")]
        count = connection.execute(f"SELECT count(*) FROM {quoted(name)}").fetchone()[0]  # noqa: S608
        position, key = _position(connection, name, columns), _key(connection, name)
        found.append(Table(name, columns, position, key, count))
    return found


def quoted(name: str) -> str:
    """Return a name as SQL takes it, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def _position(connection: sqlite3.Connection, name: str, columns: list[str]) -> str | None:
    small = {column.lower() for column in columns}
    for alias in ("rowid", "_rowid_", "oid"):
        if alias in small:
            continue  # a column of its own, which may hold anything
        try:
            connection.execute(f"SELECT {alias} FROM {quoted(name)} LIMIT 0")  # noqa: S608
        except sqlite3.OperationalError:
            break  # WITHOUT ROWID, or a virtual table of an extension
        return alias
    key = _key(connection, name)
    return quoted(key) if key is not None else None


def _key(connection: sqlite3.Connection, name: str) -> str | None:
    """Return the one column that is an INTEGER PRIMARY KEY."""
    info = connection.execute(f"PRAGMA table_info({quoted(name)})").fetchall()
    keys = [(column, declared) for _, column, declared, _, _, key in info if key]
    return keys[0][0] if len(keys) == 1 and keys[0][1].upper() == "INTEGER" else None


def _open(path: Path) -> sqlite3.Connection:
    path = path.resolve()  # beside the file itself, not beside a link to it, lies its log
    connection = _connect(path, "mode=ro")
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        connection.close()
        wal = path.with_name(f"{path.name}-wal")
        if "unable to open" not in str(error) or (wal.exists() and wal.stat().st_size):
            raise
        # A WAL database in a folder where its index cannot be made; nothing waits in the log.
        connection = _connect(path, "mode=ro&immutable=1")
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(path: Path, options: str) -> sqlite3.Connection:
    uri = f"{path.as_uri()}?{options}"
    connection = sqlite3.connect(uri, uri=True, timeout=LOCK_WAIT_S, isolation_level=None)
    connection.text_factory = _text
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def _text(raw: bytes) -> str:
    """Return text; bytes that are none stay recognisable, so that the row alone is refused."""
    return raw.decode("utf-8", "surrogateescape")


def _journal_mode(connection: sqlite3.Connection) -> str:
    return str(connection.execute("PRAGMA journal_mode").fetchone()[0]).lower()


@contextmanager
def _faults_of(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        said = str(error)
        raise ImportFailed(f"{path} cannot be read: {said}.", remedy=_remedy(said)) from None
    except OSError as error:
        raise ImportFailed(f"{path} cannot be read: {error}.") from None


def _remedy(said: str) -> str:
    if "locked" in said or "busy" in said:
        return "Another program holds it: stop that, or import a copy made with `.backup`."
    if "malformed" in said or "disk I/O" in said:
        return "It is damaged: import what `sqlite3 FILE .recover | sqlite3 NEW` saves of it."
    if "not a database" in said or "encrypted" in said:
        return "Decrypt it first, with the program that made it."
    if "readonly" in said or "unable to open" in said:
        return (
            "It waits for a recovery that needs writing: open it once with the program that wrote it,"
            " or copy it with its -wal or -journal file to where you may write."
        )
    if "full" in said:
        return "The copy finds no room: let TMPDIR name a folder that has some."
    return "Look at it with `sqlite3 FILE 'PRAGMA integrity_check'`."
