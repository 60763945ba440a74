"""A bucket's objects, by the SDK: list, look, fetch, put, delete, and every error in our words.

Each call is sent again by the SDK where it was lost; all are idempotent. Synchronous, and safe in many
threads at once.
"""

from __future__ import annotations

import hashlib
import os
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from eventlog.archive_place import BucketPlace
from eventlog.clock import SYSTEM_CLOCK, Clock
from eventlog.errors import ArchiveUnavailable, ConfigurationError
from eventlog.ids import new_event_id
from eventlog.logs import get_logger
from eventlog.settings import mask_url

if TYPE_CHECKING:
    import boto3
    from mypy_boto3_s3 import S3Client

READ_TIMEOUT_S = 30.0
"""How long the server may be silent in an exchange."""
ATTEMPTS = 4
CONNECTIONS = 16

PART_BYTES = 64 * 1024**2
MULTIPART_BYTES = 1024**3
"""From this size on a file is put in parts: S3 takes 5 GiB at once, and up to 10,000 parts."""

_DIGEST = "eventlog-sha256"
"""Key in an object's metadata: a store's own checksums differ, ETags are none."""

_ABSENT = frozenset({"404", "NoSuchKey", "NotFound"})
_TAKEN = frozenset({"412", "PreconditionFailed"})
_ENDED = frozenset({"NoSuchUpload"})
"""Also said to the second of two requests that complete an upload, the first one's reply lost."""
_CONTESTED = frozenset({"409", "ConditionalRequestConflict"})
_UNKNOWN = frozenset({"501", "NotImplemented", "InvalidArgument", "InvalidRequest"})
_REFUSED = frozenset(
    {"403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"}
)
_ELSEWHERE = frozenset({"301", "PermanentRedirect", "AuthorizationHeaderMalformed"})

_log = get_logger("bucket")


class Stored(NamedTuple):
    """An object as the bucket has it."""

    version: str
    """Its ETag: another one when the object was put anew with another content."""
    size_bytes: int
    digest: str = ""
    """SHA-256 of its content, where that was asked for and whoever put it gave it."""


class BucketObjects:
    """The objects of a bucket below a prefix. Raises ArchiveUnavailable; opens nothing by itself."""

    def __init__(
        self,
        place: BucketPlace,
        *,
        endpoint_url: str | None = None,
        region: str | None = None,
        connect_timeout_s: float = 5.0,
        read_timeout_s: float = READ_TIMEOUT_S,
        attempts: int = ATTEMPTS,
    ) -> None:
        if find_spec("boto3") is None:
            raise ConfigurationError(
                f"the archive {place} needs the S3 library, which is not installed.",
                remedy="pip install 'eventlog[s3]'",
            )
        self.place = place
        self.endpoint_url = (
            endpoint_url
            or os.environ.get("AWS_ENDPOINT_URL_S3")
            or os.environ.get("AWS_ENDPOINT_URL")
        )
        self._region = region
        self._timeouts_s = connect_timeout_s, read_timeout_s
        self._attempts = attempts
        self._made: S3Client | None = None
        self._process = 0

    # --- reading -----------------------------------------------------------------------------------

    def listing(self) -> Iterator[tuple[str, Stored]]:
        """Yield name and object of all there are below the prefix, a thousand per request."""
        start = self.place.key("")
        with self._in_our_words("list"):
            pages = self._client().get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.place.bucket, Prefix=start):
                for each in page.get("Contents", ()):
                    yield each["Key"][len(start) :], Stored(_version(each), each["Size"])

    def look(self, name: str) -> Stored | None:
        """Return the object of that name, None where there is none."""
        with self._in_our_words(f"look at {name} in"):
            try:
                found = self._client().head_object(**self._object(name))
            except _client_error() as error:
                if code_of(error) in _ABSENT:
                    return None
                raise
            return Stored(
                _version(found), found["ContentLength"], found["Metadata"].get(_DIGEST, "")
            )

    def fetch(self, name: str, version: str, file: BinaryIO) -> bool:
        """Write an object into `file`, checked; False where it is gone or another version by now."""
        for attempt in range(self._attempts):
            file.seek(0)
            file.truncate()
            try:
                with self._in_our_words(f"fetch {name} from"):
                    return self._fetch(name, version, file)
            except _Torn:
                if attempt + 1 == self._attempts:
                    raise
        raise AssertionError  # there is at least one attempt

    def _fetch(self, name: str, version: str, file: BinaryIO) -> bool:
        try:
            found = self._client().get_object(**self._object(name), IfMatch=f'"{version}"')
        except _client_error() as error:
            if code_of(error) in _ABSENT | _TAKEN:
                return False
            raise
        digest, size_bytes = hashlib.sha256(), 0
        try:
            for chunk in found["Body"].iter_chunks(1 << 20):
                digest.update(chunk)
                size_bytes += len(chunk)
                file.write(chunk)
        except _sdk_error() as error:
            raise _torn(self.place, name, mask_url(str(error))) from None
        finally:
            found["Body"].close()
        wanted = found["Metadata"].get(_DIGEST)
        if size_bytes != found["ContentLength"] or wanted not in (None, digest.hexdigest()):
            raise _torn(self.place, name, "it is not what was put there")
        return True

    # --- writing -----------------------------------------------------------------------------------

    def put(self, name: str, path: Path, *, if_absent: bool = False) -> Stored | None:
        """Put the file as the object of that name; return it.

        None where it is `if_absent` and the name was taken, by another content: a file that is there
        already, as after a lost reply, was put.
        """
        md5, digest = _digests(path)
        metadata = {_DIGEST: digest}
        condition: dict[str, Any] = {"IfNoneMatch": "*"} if if_absent else {}
        size_bytes = path.stat().st_size
        with self._in_our_words(f"put {name} into"):
            for attempt in range(self._attempts):
                try:
                    if size_bytes >= MULTIPART_BYTES:
                        version = self._put_parts(name, path, metadata, condition)
                    else:
                        version = self._put_whole(name, path, md5, metadata, condition)
                    return Stored(version, size_bytes, digest)
                except _client_error() as error:
                    code = code_of(error)
                    if code in _TAKEN | _ENDED:
                        there = self.look(name)
                        if there and there[1:] == (size_bytes, digest):
                            return there
                    if code in _TAKEN:
                        return None
                    if code not in _CONTESTED or attempt + 1 == self._attempts:
                        raise
        raise AssertionError  # there is at least one attempt

    def _put_whole(
        self, name: str, path: Path, md5: str, metadata: dict[str, str], condition: dict[str, Any]
    ) -> str:
        with path.open("rb") as body:
            put = self._client().put_object(
                **self._object(name), Body=body, ContentMD5=md5, Metadata=metadata, **condition
            )
        return _version(put)

    def _put_parts(
        self, name: str, path: Path, metadata: dict[str, str], condition: dict[str, Any]
    ) -> str:
        client, place = self._client(), self._object(name)
        upload = client.create_multipart_upload(**place, Metadata=metadata)["UploadId"]
        try:
            parts: list[Any] = []
            with path.open("rb") as file:
                while body := file.read(PART_BYTES):
                    number = len(parts) + 1
                    part = client.upload_part(
                        **place,
                        UploadId=upload,
                        PartNumber=number,
                        Body=body,
                        ContentMD5=_md5(body),
                    )
                    parts.append({"PartNumber": number, "ETag": part["ETag"]})
            done = client.complete_multipart_upload(
                **place, UploadId=upload, MultipartUpload={"Parts": parts}, **condition
            )
        except Exception:
            client.abort_multipart_upload(**place, UploadId=upload)
            raise
        return _version(done)

    def delete(self, name: str) -> None:
        """Delete the object of that name; nothing happens where it is gone."""
        with self._in_our_words(f"delete {name} from"):
            self._client().delete_object(**self._object(name))

    def abort_uploads(self, age_s: float, clock: Clock = SYSTEM_CLOCK) -> None:
        """Give up uploads in parts that were begun longer ago than that and never completed."""
        with self._in_our_words("list the uploads in"):
            pages = self._client().get_paginator("list_multipart_uploads")
            for page in pages.paginate(Bucket=self.place.bucket, Prefix=self.place.key("")):
                for each in page.get("Uploads", ()):
                    if clock.now_us() / 1e6 - each["Initiated"].timestamp() > age_s:
                        self._client().abort_multipart_upload(
                            Bucket=self.place.bucket, Key=each["Key"], UploadId=each["UploadId"]
                        )

    def enforces_absence(self) -> bool:
        """Return whether the server refuses to put what is there; tried with an object of its own."""
        name = f".eventlog-probe-{new_event_id()}"
        client, place = self._client(), self._object(name)
        with self._in_our_words(f"put {name} into"):
            try:
                for body in (b"1", b"2"):
                    client.put_object(**place, Body=body, IfNoneMatch="*")
                is_enforced = False
            except _client_error() as error:
                if code_of(error) not in _TAKEN | _UNKNOWN:
                    raise
                is_enforced = code_of(error) in _TAKEN
        try:
            self.delete(name)
        except ArchiveUnavailable as error:
            _log.info("probe_left_behind", object=name, error=str(error))
        return is_enforced

    # --- the client --------------------------------------------------------------------------------

    def _object(self, name: str) -> Any:
        return {"Bucket": self.place.bucket, "Key": self.place.key(name)}

    def _client(self) -> S3Client:
        """Return the client of this process: one that was forked shares no connection."""
        if self._made is None or self._process != os.getpid():
            self._made, self._process = self._new_client(), os.getpid()
        return self._made

    def _new_client(self) -> S3Client:
        from botocore.config import Config

        connect_timeout_s, read_timeout_s = self._timeouts_s
        config = Config(
            connect_timeout=connect_timeout_s,
            read_timeout=read_timeout_s,
            retries={"total_max_attempts": self._attempts, "mode": "standard"},
            max_pool_connections=CONNECTIONS,
            # Servers other than Amazon's rarely have a name for each bucket, or know new checksums.
            s3={"addressing_style": "path"} if self.endpoint_url else None,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        try:
            with _session_lock:
                session = _session(os.getpid())
                named = self._region or os.environ.get("AWS_REGION") or session.region_name
                return session.client(
                    "s3",
                    region_name=named or "us-east-1",
                    endpoint_url=self.endpoint_url,
                    config=config,
                )
        except ValueError as error:
            raise ConfigurationError(
                f"the bucket's server: {mask_url(str(error))}.", remedy="See `s3_endpoint_url`."
            ) from None

    @contextmanager
    def _in_our_words(self, doing: str) -> Iterator[None]:
        what = f"cannot {doing} {self.place}"
        try:
            yield
        except _client_error() as error:
            raise _answered(what, error, self.place) from None
        except _sdk_error() as error:
            raise _unanswered(what, error) from None


_session_lock = threading.Lock()
"""A session makes one client at a time; what it has made may be used by many threads."""


@lru_cache(maxsize=1)
def _session(process: int) -> boto3.session.Session:
    """Return the process's session: the first client of each costs a fifth of a second."""
    del process
    import boto3  # half a second and 40 MB, which only an archive in a bucket should cost

    return boto3.session.Session()


def code_of(error: Any) -> str:
    """Return the server's word for what was wrong."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _version(reply: Any) -> str:
    return str(reply["ETag"]).strip('"')


def _client_error() -> Any:
    from botocore.exceptions import ClientError

    return ClientError


def _sdk_error() -> Any:
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError

    return (BotoCoreError, Boto3Error)


class _Torn(ArchiveUnavailable):
    """What came is not all, or not what it should be: worth another attempt."""


def _torn(place: BucketPlace, name: str, why: str) -> _Torn:
    return _Torn(
        f"{name} did not come whole from {place}: {why}.",
        remedy="Try again; if it stays so, restore the object from a backup.",
    )


def _answered(what: str, error: Any, place: BucketPlace) -> ArchiveUnavailable:
    code = code_of(error)
    said = mask_url(str(error.response.get("Error", {}).get("Message", "")))
    if code == "NoSuchBucket":
        return ArchiveUnavailable(
            f"{what}: there is no such bucket.", remedy="Create it, or correct `archive_dir`."
        )
    if code in _REFUSED:
        return ArchiveUnavailable(
            f"{what}: the server refuses the credentials ({code}).",
            remedy="Look at AWS_ACCESS_KEY_ID or AWS_PROFILE; they must be allowed to list, get, put"
            f" and delete in {place}.",
        )
    if code in _ELSEWHERE:
        return ArchiveUnavailable(
            f"{what}: the bucket is in another region ({said}).", remedy="Set `s3_region`."
        )
    return ArchiveUnavailable(f"{what}: {code} ({said}).", remedy="Try again later.")


def _unanswered(what: str, error: Exception) -> ArchiveUnavailable:
    kind = type(error).__name__
    if "Credential" in kind or "Token" in kind or kind == "ProfileNotFound":
        return ArchiveUnavailable(
            f"{what}: no credentials ({kind}).",
            remedy="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE.",
        )
    return ArchiveUnavailable(
        f"{what}: {mask_url(str(error)).rstrip('.')}.",
        remedy="Is the server up, and are `s3_endpoint_url` and the network right?",
    )


def _digests(path: Path) -> tuple[str, str]:
    """Return a file's MD5 as S3 wants it, and its SHA-256."""
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            md5.update(chunk)
            sha256.update(chunk)
    return b64encode(md5.digest()).decode(), sha256.hexdigest()


def _md5(body: bytes) -> str:
    return b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
