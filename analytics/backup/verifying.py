"""Whether a backup is as it was written."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from analytics.backup.files import file_facts
from analytics.backup.manifest import FileRecord, Manifest
from analytics.backup.steps import Progress, Tell, tell_nobody
from eventlog.errors import BackupDamaged


class Damage(NamedTuple):
    """A file that is not as it was written."""

    path: str
    what: str


def verify_backup(
    folder: Path, manifest: Manifest, *, on_progress: Tell = tell_nobody
) -> list[Damage]:
    """Return what is missing or differs; every byte is read. Synchronous."""
    files = manifest.files
    found = []
    for done, file in enumerate(files):
        on_progress(Progress("verifying", done, len(files)))
        what = _damage(folder, file)
        if what:
            found.append(Damage(file.path, what))
    return found


def require_whole(folder: Path, manifest: Manifest, *, on_progress: Tell = tell_nobody) -> None:
    """Ensure that a backup is as it was written. Raises BackupDamaged, naming the first file."""
    damage = verify_backup(folder, manifest, on_progress=on_progress)
    if damage:
        more = f", and {len(damage) - 1} more" if len(damage) > 1 else ""
        raise BackupDamaged(
            f"the backup's file {damage[0].path} {damage[0].what}{more}.",
            remedy="Nothing was changed. Restore another backup.",
        )


def _damage(folder: Path, file: FileRecord) -> str:
    try:
        facts = file_facts(folder / file.path)
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if facts.size_bytes != file.size_bytes:
        return f"has {facts.size_bytes:,} bytes instead of {file.size_bytes:,}"
    return "" if facts.sha256 == file.sha256 else "has another checksum"
