"""Where an archive is: a directory, or a bucket named by URL. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

from eventlog.errors import ConfigurationError

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<rest>.*)", re.DOTALL)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}")
_PREFIX = re.compile(r"[\w.=+,:!()-]+(/[\w.=+,:!()-]+)*", re.ASCII)


class BucketPlace(NamedTuple):
    """A bucket and what the keys of the archive's objects begin with, without `/` at its ends."""

    bucket: str
    prefix: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def key(self, name: str) -> str:
        """Return the key of the object of that name."""
        return f"{self.prefix}/{name}" if self.prefix else name


def bucket_place(text: str) -> BucketPlace | None:
    """Return the bucket that `s3://BUCKET/PREFIX` names, None where the text is a path.

    Raises ConfigurationError for any other URL.

    >>> bucket_place("s3://chats/archive/")
    BucketPlace(bucket='chats', prefix='archive')
    """
    url = _URL.fullmatch(text)
    if url is None:
        return None
    bucket, _, prefix = url["rest"].partition("/")
    prefix = prefix.strip("/")
    is_prefix = not prefix or (
        _PREFIX.fullmatch(prefix) and not {".", ".."} & set(prefix.split("/"))
    )
    if url["scheme"] != "s3" or not _BUCKET.fullmatch(bucket) or not is_prefix:
        # Not the text itself: somebody may have written a password into it.
        raise ConfigurationError(
            f"the archive's URL ({url['scheme']}://…) is not of the form s3://BUCKET/PREFIX.",
            remedy="BUCKET is 3 to 63 of letters, digits, `.`, `-`, `_`; PREFIX has no blank, `?`"
            " or `@`. Credentials come from the environment, never from the URL.",
        )
    return BucketPlace(bucket, prefix)
