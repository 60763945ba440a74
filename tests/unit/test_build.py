from __future__ import annotations

import pytest

from eventlog.errors import ConfigurationError
from eventlog.ids import START, EntryId
from eventlog.keys import Keys, ModelKey, model_pattern, models_pattern
from projections import DEFAULT_PROJECTIONS, DocumentProjection
from projections.projecting.status import lowest_position, models_on
from projections.projection import check_projections
from projections.storing.build import Build, Shelf

OLD, NEW = Build("tools", 1, "19a0"), Build("tools", 2, "19b0")


def shelf(**fields: str) -> Shelf:
    return Shelf({name.replace("__", ":"): value for name, value in fields.items()})


def test_a_build_is_named_by_when_it_was_begun() -> None:
    build = Build.begin("tools", 2, 1_763_500_000_123_456)
    assert int(build.made, 16) == 1_763_500_000_123
    assert build.model == f"tools@2.{build.made}"
    assert Build.of_mark("tools", build.mark) == build


def test_an_empty_shelf_has_nothing_to_read() -> None:
    empty = shelf()
    assert empty.is_empty
    assert empty.readable("tools", 1) is None
    assert lowest_position(empty) == START


def test_a_version_reads_what_serves_or_else_what_served_before() -> None:
    both = shelf(tools__serving=NEW.mark, tools__previous=OLD.mark)
    assert both.readable("tools", 2) == NEW
    assert both.readable("tools", 1) == OLD
    assert both.readable("tools", 3) is None


def test_what_is_in_the_making_is_never_read() -> None:
    making = shelf(tools__building=NEW.mark)
    assert making.readable("tools", 2) is None
    [status] = models_on(making, EntryId(9, 9))
    assert (status.version, status.building_version) == (None, 2)


def test_a_build_without_a_checkpoint_stands_at_the_start() -> None:
    assert shelf(tools__serving=OLD.mark).checkpoint(OLD) == START
    moved = Shelf({"tools:serving": OLD.mark, OLD.model: "7-3"})
    assert moved.checkpoint(OLD) == EntryId(7, 3)
    assert lowest_position(moved) == EntryId(7, 3)


def test_status_tells_of_a_projection_that_is_nowhere() -> None:
    [status] = models_on(shelf(), EntryId(5, 4), ["tools"])
    assert (status.version, status.position, status.lag_count) == (None, START, 4)


@pytest.mark.parametrize("log", ["app", "app:x", "a.b-c"])
def test_a_model_s_keys_are_told_from_those_of_a_log_with_a_longer_name(log: str) -> None:
    keys = Keys(log)
    key = keys.index(3, OLD.model, "status:on:off")
    assert ModelKey.parse(log, key) == (3, OLD.model, "index", "status:on:off")
    longer = Keys(f"{log}:y").documents(3, OLD.model)
    assert ModelKey.parse(log, longer) is None
    assert key.startswith(model_pattern(log, 3, OLD.model).removesuffix("*"))
    assert models_pattern(log, "tools").endswith(":model:tools@*")


class Named(DocumentProjection[dict[str, int]]):
    state_type = dict[str, int]

    def __init__(self, name: str) -> None:
        self.name = name  # type: ignore[misc]

    def key(self, _event):
        return None

    def initial(self, _key):
        return {}

    def apply(self, state, _entry):
        return state


@pytest.mark.parametrize("name", ["", "a:b", "a@1", "a.b", "x" * 65, "ä"])
def test_a_name_that_cannot_be_part_of_a_key_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot name a projection"):
        check_projections([Named(name)])


def test_two_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="a name of its own"):
        check_projections([*DEFAULT_PROJECTIONS, Named("sessions")])
