"""The directory of a backup: who writes to it, how a file gets into it, what is in it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from analytics.backup.files import copy_hashed, file_facts, sync
from analytics.backup.manifest import NAME, SEGMENTS, STATES, FileRecord
from eventlog.errors import ConfigurationError

_LOCK = ".lock"
_OURS = {NAME, f".{NAME}.tmp", SEGMENTS, STATES, _LOCK}
_TEMPORARY = ".tmp"


@contextmanager
def taken_folder(folder: Path) -> Iterator[None]:
    """Hold the directory for a backup, made where it is missing. Raises ConfigurationError, OSError.

    Everything in it is for its owner's eyes alone.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:
        raise ConfigurationError(f"{folder} is no directory.") from None
    foreign = sorted({each.name for each in folder.iterdir()} - _OURS)
    if foreign:
        raise ConfigurationError(
            f"{folder} holds {foreign[0]!r}, which is no part of a backup.",
            remedy="Name an empty directory, or that of an earlier backup.",
        )
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(
                f"another backup into {folder} is under way.", remedy="Wait for its end."
            ) from None
        for name in (SEGMENTS, STATES):
            (folder / name).mkdir(mode=0o700, exist_ok=True)
        yield
    finally:
        os.close(descriptor)


def place(folder: Path, path: str) -> Path:
    """Return where a file of the backup lies, its folder being there, for the owner alone."""
    full = folder / path
    full.parent.mkdir(mode=0o700, exist_ok=True)
    return full


def copy_in(source: Path, folder: Path, path: str) -> FileRecord:
    """Return the record of a copy, whole and durable. Raises OSError; then nothing is left of it.

    One that a killed backup left is whole, since it has its name last.
    """
    final = place(folder, path)
    if final.exists():
        return record_of(folder, path)
    staged = final.with_name(f".{final.name}{_TEMPORARY}")
    try:
        facts = copy_hashed(source, staged)
        staged.rename(final)
    except BaseException:
        staged.unlink(missing_ok=True)
        raise
    sync(final.parent)
    return FileRecord(path, *facts)


def record_of(folder: Path, path: str) -> FileRecord:
    """Return the record of a file that was written there."""
    return FileRecord(path, *file_facts(folder / path))


def present_files(folder: Path) -> list[str]:
    """Return the paths of all files in the backup's folders, unfinished ones included."""
    return [
        file.relative_to(folder).as_posix()
        for name in (SEGMENTS, STATES)
        for file in (folder / name).rglob("*")
        if file.is_file()
    ]


def delete(folder: Path, paths: list[str]) -> None:
    """Delete files, and folders that have none left."""
    for path in paths:
        (folder / path).unlink(missing_ok=True)
    for name in (SEGMENTS, STATES):
        for each in list((folder / name).iterdir()):
            if each.is_dir() and not any(each.iterdir()):
                each.rmdir()
