from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from eventlog import Entry, Event, EventLog, MessageReceived
from eventlog.errors import ConfigurationError
from projections import (
    DEFAULT_PROJECTIONS,
    DocumentProjection,
    LiveDocuments,
    document_projection,
    load_projections,
    registry,
)
from projections.registry import event_types_of, find_projection


class Paid(Event, tag="test.paid", frozen=True, kw_only=True):
    cents: int


class Spending(DocumentProjection[int]):
    """Cents per conversation."""

    name = "spending"
    types = (Paid, MessageReceived)
    state_type = int

    def key(self, event: Event) -> str:
        return event.conversation

    def initial(self, _key: str) -> int:
        return 0

    def apply(self, state: int, entry: Entry) -> int:
        event: Any = entry.event
        return state + getattr(event, "cents", 0)


HERE = f"{__name__}:Spending"


def names(found: tuple[Any, ...]) -> list[str]:
    return [each.name for each in found[len(DEFAULT_PROJECTIONS) :]]


def test_the_built_in_ones_come_first() -> None:
    assert load_projections()[: len(DEFAULT_PROJECTIONS)] == DEFAULT_PROJECTIONS


def test_a_class_is_named_by_module_and_object() -> None:
    assert names(load_projections([HERE])) == ["spending"]


def test_entry_points_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("mine", HERE, registry.ENTRY_POINT_GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda **_: [point])
    assert names(load_projections()) == ["spending"]


def test_a_module_in_the_working_directory_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "from tests.unit.test_registry import Spending\nboth = [Spending()]\n"
    (tmp_path / "views_of_mine.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    assert names(load_projections(["views_of_mine:both"])) == ["spending"]


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("nowhere:Tools", "ModuleNotFoundError"),
        (f"{__name__}:nothing", "AttributeError"),
        (f"{__name__}", "module:object"),
        (f"{__name__}:HERE", "no projection"),
        ("projections.views.sessions:SESSIONS", "a name of its own"),
    ],
)
def test_what_cannot_be_loaded_is_named(named: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        load_projections([named])


def test_one_is_found_by_its_name_or_model() -> None:
    assert find_projection(DEFAULT_PROJECTIONS, "sessions").name == "sessions"
    assert find_projection(DEFAULT_PROJECTIONS, "sessions@2").name == "sessions"
    with pytest.raises(ConfigurationError, match="Known: activity_conversations@1"):
        find_projection(DEFAULT_PROJECTIONS, "sessions@9")


def test_event_types_beyond_the_vocabulary_are_told() -> None:
    assert event_types_of([*DEFAULT_PROJECTIONS, Spending()]) == [Paid]


async def test_a_function_makes_a_projection() -> None:
    @document_projection(
        key=lambda event: event.sender,
        initial=lambda _: {},
        types=(MessageReceived,),
        index=lambda _, state: [("all", len(state))],
        version=3,
    )
    def words(state: dict[str, int], entry: Entry) -> dict[str, int]:
        """Words by sender."""
        event: Any = entry.event
        for word in event.text.split():
            state[word] = state.get(word, 0) + 1
        return state

    assert (words.model, words.__doc__) == ("words@3", "Words by sender.")
    async with EventLog.in_memory(partition_count=1) as log:
        await log.append(MessageReceived(conversation="c", sender="ada", text="to be or not to be"))
        documents = LiveDocuments(log, words)
        assert await documents.get(0, "ada") == {"to": 2, "be": 2, "or": 1, "not": 1}
        assert (await documents.page("all", 5)).items == [{"to": 2, "be": 2, "or": 1, "not": 1}]


def test_a_function_that_does_not_say_what_it_returns_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="does not say what it returns"):

        @document_projection(key=lambda event: event.id, initial=lambda _: 0)
        def count(state, _entry):  # type: ignore[no-untyped-def]
            return state + 1
