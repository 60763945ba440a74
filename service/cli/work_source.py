"""What `eventlog worker MODULE:OBJECT` names: handlers, or a function that makes a worker."""

from __future__ import annotations

import inspect
import sys
import traceback
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

from consumers.handler import Handlers
from consumers.worker import Worker
from eventlog import loading
from eventlog.errors import ConfigurationError, EventLogError
from eventlog.event import Event
from eventlog.log import EventLog
from eventlog.vocabulary import VOCABULARY

REMEDY = "Name consumers.Handlers, or a function that takes the log and returns a Worker."

LOADING = Path(loading.__file__)


class Source(NamedTuple):
    """What is to be worked with, and the name it was loaded by."""

    name: str
    found: Handlers | Callable[[EventLog], Any]

    @property
    def module(self) -> str:
        """The module's name."""
        return self.name.partition(":")[0]

    @property
    def event_types(self) -> Iterable[type[Event]]:
        """The event types that the log has to know beyond the vocabulary.

        Those handled, and those that the module has by name: handlers append them.
        """
        handled = self.found.event_types if isinstance(self.found, Handlers) else ()
        named = vars(sys.modules[self.module]).values()
        return dict.fromkeys([*handled, *(each for each in named if _is_type_of_theirs(each))])

    async def call(self, log: EventLog, stack: AsyncExitStack) -> Worker:
        """Return the function's worker; what it opened is closed with the stack.

        Raises ConfigurationError where it fails or returns something else.
        """
        assert not isinstance(self.found, Handlers)
        try:
            made = self.found(log)
            if inspect.isawaitable(made):
                made = await made
            if isinstance(made, AbstractAsyncContextManager):
                made = await stack.enter_async_context(made)
        except Exception as error:
            if isinstance(error, EventLogError):
                raise
            raise ConfigurationError(
                f"{self.name} failed: {_told(error, Path(__file__))}"
            ) from error
        if not isinstance(made, Worker):
            raise ConfigurationError(
                f"{self.name} returned what is {_kind(made)}, no Worker.", remedy=REMEDY
            )
        return made


def load_source(name: str) -> Source:
    """Return what MODULE:OBJECT names. Raises ConfigurationError that says what to mend."""
    try:
        found = loading.import_object(name)
    except (Exception, SystemExit) as error:
        raise _not_loaded(name, error) from error
    if isinstance(found, Handlers):
        if not found.by_type:
            raise ConfigurationError(
                f"{name} handles nothing.", remedy='Register a function: `@handlers.on("…")`.'
            )
    elif isinstance(found, type) or not callable(found):
        raise ConfigurationError(f"{name} is {_kind(found)}, nothing to work with.", remedy=REMEDY)
    return Source(name, found)


def _not_loaded(name: str, error: BaseException) -> ConfigurationError:
    module, _, path = name.partition(":")
    if not module or not path or module.startswith("."):
        return ConfigurationError(
            f"{name!r} names no object.", remedy="Write it as MODULE:OBJECT: mybot:handlers."
        )
    missing = getattr(error, "name", None)
    if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{missing}."):
        return ConfigurationError(
            f"there is no module {module!r} in {Path.cwd()}, nor is one installed.",
            remedy="Name it as `import` does, without .py, and run this where it is.",
        )
    if isinstance(error, AttributeError) and not _places(error, LOADING):
        has = [key for key, value in vars(sys.modules[module]).items() if _is_handlers(value)]
        remedy = f"Its handlers: {', '.join(has)}." if has else REMEDY
        return ConfigurationError(f"{module} has no {path!r}.", remedy=remedy)
    return ConfigurationError(
        f"{name} cannot be loaded: {_told(error, LOADING)}",
        remedy=f"Importing the module must work: `python -c 'import {module}'`.",
    )


def _told(error: BaseException, called_from: Path) -> str:
    """Return an error of theirs with the last place it came through, as a sentence."""
    at = "".join(f" at {place}" for place in _places(error, called_from)[-1:])
    return f"{type(error).__name__}{at}: {error}".rstrip(".") + "."


def _places(error: BaseException, called_from: Path) -> list[str]:
    """Return the places of the traceback behind the file of ours that called them."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [i for i, frame in enumerate(frames) if Path(frame.filename) == called_from]
    return [
        f"{frame.filename}:{frame.lineno}"
        for frame in frames[ours[-1] + 1 :]
        if not frame.filename.startswith("<") and "/importlib/" not in frame.filename
    ]


def _is_handlers(found: object) -> bool:
    return isinstance(found, Handlers)


def _kind(found: Any) -> str:
    return "a class" if isinstance(found, type) else f"of type {type(found).__name__}"


def _is_type_of_theirs(found: object) -> TypeGuard[type[Event]]:
    if not (isinstance(found, type) and issubclass(found, Event)) or found in VOCABULARY:
        return False
    return isinstance(found.__struct_config__.tag, str)
