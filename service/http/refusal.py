"""What the HTTP layer itself refuses: codes of its own beside those of `eventlog.errors`."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from eventlog.errors import EventLogError

CODES: Mapping[str, HTTPStatus] = {
    "bad_request": HTTPStatus.BAD_REQUEST,
    "unauthenticated": HTTPStatus.UNAUTHORIZED,
    "forbidden": HTTPStatus.FORBIDDEN,
    "untrusted_origin": HTTPStatus.FORBIDDEN,
    "not_found": HTTPStatus.NOT_FOUND,
    "method_not_allowed": HTTPStatus.METHOD_NOT_ALLOWED,
    "request_timeout": HTTPStatus.REQUEST_TIMEOUT,
    "body_too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "unsupported_media_type": HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "invalid_body": HTTPStatus.UNPROCESSABLE_ENTITY,
    "overloaded": HTTPStatus.SERVICE_UNAVAILABLE,
}
"""Code → status."""


class Refusal(EventLogError):
    """A request that is not done; nothing was changed."""

    code = "bad_request"

    def __init__(
        self,
        code: str,
        message: str,
        *,
        remedy: str = "",
        pointer: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """With `pointer`, the path of the field at fault; `headers` go with the answer."""
        super().__init__(message, remedy=remedy)
        assert code in CODES
        self.code = code
        self.pointer = pointer
        self.headers = dict(headers or {})
