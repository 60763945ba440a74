"""Where an archive is, as a Storage: a directory or a bucket."""

from __future__ import annotations

import hashlib
from pathlib import Path

from analytics.bucket import BucketStorage
from analytics.bucket_objects import BucketObjects
from analytics.segment_cache import SegmentCache
from analytics.storage import DirectoryStorage, Storage
from eventlog.archive_place import bucket_place
from eventlog.clock import SYSTEM_CLOCK, Clock
from eventlog.settings import Settings, load_settings


def storage_of(settings: Settings, *, clock: Clock = SYSTEM_CLOCK) -> Storage:
    """Return the storage of the archive that the settings name; nothing is opened yet.

    Raises ConfigurationError where it is a bucket and the S3 library is not installed.
    """
    return open_storage(settings.archive_place, settings, clock=clock)


def open_storage(
    archive: Path | str, settings: Settings | None = None, *, clock: Clock = SYSTEM_CLOCK
) -> Storage:
    """Return the storage of the archive at a path or `s3://BUCKET/PREFIX`.

    The settings say how a bucket is reached and where its segments are kept for reading; by default
    they are those of environment and file.
    """
    place = bucket_place(str(archive))
    if place is None:
        return DirectoryStorage(Path(archive), clock=clock)
    settings = settings or load_settings()
    objects = BucketObjects(
        place,
        endpoint_url=settings.s3_endpoint_url,
        region=settings.s3_region,
        connect_timeout_s=settings.connect_timeout_s,
        attempts=settings.max_retries + 1,
    )
    # Two servers may each have a bucket of that name.
    which = hashlib.sha256(f"{objects.endpoint_url} {place}".encode()).hexdigest()[:8]
    root = settings.archive_cache_path / f"{place.bucket}-{which}"
    cache = SegmentCache(root, settings.archive_cache_bytes, clock=clock)
    return BucketStorage(objects, cache, clock=clock)
