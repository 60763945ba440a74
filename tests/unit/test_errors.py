from __future__ import annotations

import inspect
import re

import pytest

from eventlog import errors
from eventlog.errors import EventLogError, IllegalTransition, ProducerGap, VersionConflict

CLASSES = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and value.__module__ == errors.__name__
]


def drawn() -> dict[str, tuple[str | None, str]]:
    """Return class name → (parent's name, code), as the module's docstring draws it."""
    assert errors.__doc__
    found: dict[str, tuple[str | None, str]] = {"EventLogError": (None, "eventlog")}
    path = ["EventLogError"]
    for line in errors.__doc__.splitlines():
        match = re.fullmatch(r"    ([│ ]*)[├└]── (\w+) +(\w+)", line)
        if match:
            depth = len(match[1]) // 4 + 1
            path[depth:] = [match[2]]
            found[match[2]] = (path[depth - 1], match[3])
    return found


def test_the_drawing_is_the_tree():
    actual = {
        c.__name__: (None if c is EventLogError else c.__base__.__name__, c.code) for c in CLASSES
    }
    assert drawn() == actual


def test_codes_are_unique_and_derive_from_the_name():
    assert len({c.code for c in CLASSES}) == len(CLASSES)
    for c in CLASSES:
        assert "code" in vars(c), f"{c.__name__} inherits its parent's code"
        assert c.__name__.removesuffix("Error").lower() == c.code.replace("_", "")


def test_every_class_says_what_it_is():
    assert all(c.__doc__ for c in CLASSES)


def test_all_are_caught_by_the_root():
    assert all(issubclass(c, EventLogError) for c in CLASSES)
    assert not issubclass(EventLogError, (OSError, ValueError))


def test_the_text_ends_with_the_remedy():
    error = EventLogError("it broke.", remedy="Mend it.")
    assert str(error) == "it broke. Mend it."
    assert (error.message, error.remedy) == ("it broke.", "Mend it.")
    assert str(EventLogError("it broke.")) == "it broke."


@pytest.mark.parametrize(
    ("error", "facts"),
    [
        (VersionConflict("session:s", 3, 5), {"expected_version": 3, "actual_version": 5}),
        (ProducerGap("import:x", 10, 4), {"expected": 10, "actual": 4}),
        (
            IllegalTransition("s", "failed", "active"),
            {"from_status": "failed", "to_status": "active"},
        ),
    ],
)
def test_errors_with_facts_carry_and_tell_them(error, facts):
    for name, value in facts.items():
        assert getattr(error, name) == value
        assert str(value) in str(error)
    assert error.remedy
