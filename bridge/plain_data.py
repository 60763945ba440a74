"""Whatever a program has at hand, as data that JSON can hold. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from eventlog.errors import InvalidEvent

_BINARY = (bytes, bytearray, memoryview)
"""Left as they are, for the codec to refuse: as text they would mean something else."""


def plain_data(data: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a deep copy in JSON's types.

    Dataclasses, times, enums, sets, tuples and UUIDs become what JSON has for them. Bytes, NaN and infinity stay, and the codec refuses them. Raises InvalidEvent for what is no
    mapping, TypeError for objects that nobody can tell.
    """
    if data is None:
        return {}
    plain = msgspec.to_builtins(data, builtin_types=_BINARY, str_keys=True, enc_hook=_unusual)
    if type(plain) is not dict:
        raise InvalidEvent(
            f"the data of a bridge event is {type(data).__name__}, not a mapping.",
            remedy='Give it a name: `{"value": …}`.',
        )
    listed: dict[str, Any] = _listed(plain)
    return listed


def _unusual(value: Any) -> Any:
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is nothing that JSON can hold")


def _listed(value: Any) -> Any:
    """Return the value with lists for tuples, since that is how they come back."""
    if type(value) is dict:
        return {key: _listed(each) for key, each in value.items()}
    if type(value) is list or type(value) is tuple:
        return [_listed(each) for each in value]
    return value
