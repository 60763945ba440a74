"""A file that a command writes for its user: whole under its name, or not there at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from eventlog.errors import ConfigurationError
from eventlog.ids import new_event_id


@contextmanager
def written_file(path: Path, *, replaces: bool) -> Iterator[BinaryIO]:
    """Give a file to write, which gets its name when the block ends without an error.

    What is not a regular file (a pipe, /dev/stdout) is written to directly. Raises
    ConfigurationError where the name is taken and `replaces` is not set, or it cannot be written.
    """
    final = path.resolve()  # a link stays one
    try:
        if final.exists() and not final.is_file():
            with final.open("wb") as file:
                yield file
            return
        if not replaces and final.exists():
            raise _taken(path)
        staged = final.with_name(f".{final.name}.{new_event_id()}.tmp")
        try:
            with staged.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            _give_name(staged, final, replaces=replaces)
        except FileExistsError:
            raise _taken(path) from None
        finally:
            staged.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror}.") from None


def _give_name(staged: Path, final: Path, *, replaces: bool) -> None:
    if replaces:
        staged.replace(final)
        return
    try:
        os.link(staged, final)  # fails where the name was taken meanwhile
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        staged.replace(final)


def _taken(path: Path) -> ConfigurationError:
    return ConfigurationError(
        f"{path} exists already.", remedy="Name another file, or use --force to replace it."
    )
