"""Backup and restore: a log, its archive and its groups in a directory, and back onto a server."""

from analytics.backup.manifest import Manifest, read_manifest
from analytics.backup.restoring import Restored, complete, restore
from analytics.backup.taking import back_up
from analytics.backup.verifying import Damage, verify_backup

__all__ = [
    "Damage",
    "Manifest",
    "Restored",
    "back_up",
    "complete",
    "read_manifest",
    "restore",
    "verify_backup",
]
