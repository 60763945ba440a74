"""What can be asked for: the route table, from which requests are served and documented alike.

A handler says by its annotations what it takes and gives:

    routes = Routes("sessions")

    @routes.get("/v1/sessions", scope="read")
    async def list_sessions(service: Service, asked: WhichSessions) -> SessionList:
        '''List sessions, last active first.'''

`asked` has the parameters of path and query, `body` the JSON body; both are msgspec structs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, TypedDict, TypeVar, Unpack, get_type_hints

import msgspec

Scope = Literal["open", "read", "write", "admin"]
"""What a token must be good for; `open` is for everybody."""
Method = Literal["GET", "POST", "PUT", "DELETE"]

STREAM = "text/event-stream"

Handler = Callable[..., Awaitable[Any]]
H = TypeVar("H", bound=Handler)


class Operation(NamedTuple):
    """One method of one path."""

    method: Method
    path: str
    handler: Handler
    scope: Scope
    tag: str
    asked: type[Any] | None
    """The struct of path and query parameters."""
    body: type[Any] | None
    answer: type[Any] | None
    """The struct of the answer; None where it has no body, or no schema."""
    statuses: tuple[int, ...]
    """What it answers with where it was done, the usual one first."""
    media: tuple[str, ...]
    """Media types of the answer."""
    takes_request: bool
    """Whether the handler wants the request as well."""

    @property
    def name(self) -> str:
        """What it is called in the document."""
        return self.handler.__name__

    @property
    def is_stream(self) -> bool:
        """Whether the answer goes on for as long as its reader stays."""
        return STREAM in self.media

    @property
    def text(self) -> str:
        """What it does."""
        return (self.handler.__doc__ or "").strip()


class Told(TypedDict, total=False):
    """What a handler's annotations do not say."""

    scope: Scope
    answer: type[Any]
    """Where the handler makes the response itself."""
    statuses: Sequence[int]
    """Else 200, or 204 for a handler that returns None."""
    media: Sequence[str]
    """Else JSON."""


class Routes:
    """The operations of one group."""

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self._operations: list[Operation] = []

    def __iter__(self) -> Iterator[Operation]:
        return iter(self._operations)

    def get(self, path: str, **told: Unpack[Told]) -> Callable[[H], H]:
        """Serve GET, and HEAD."""
        return self._add("GET", path, {"scope": "read", **told})

    def post(self, path: str, **told: Unpack[Told]) -> Callable[[H], H]:
        """Serve POST."""
        return self._add("POST", path, {"scope": "write", **told})

    def put(self, path: str, **told: Unpack[Told]) -> Callable[[H], H]:
        """Serve PUT."""
        return self._add("PUT", path, {"scope": "write", **told})

    def delete(self, path: str, **told: Unpack[Told]) -> Callable[[H], H]:
        """Serve DELETE."""
        return self._add("DELETE", path, {"scope": "write", **told})

    def _add(self, method: Method, path: str, told: Told) -> Callable[[H], H]:
        def add(handler: H) -> H:
            hints = get_type_hints(handler)
            returned = hints["return"]
            is_struct = isinstance(returned, type) and issubclass(returned, msgspec.Struct)
            operation = Operation(
                method,
                path,
                handler,
                told["scope"],
                self.tag,
                hints.get("asked"),
                hints.get("body"),
                returned if is_struct else told.get("answer"),
                tuple(told.get("statuses", (204,) if returned is type(None) else (200,))),
                tuple(told.get("media", ("application/json",))),
                "request" in hints,
            )
            self._operations.append(operation)
            return handler

        return add
