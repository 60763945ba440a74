"""Whatever stands in the log comes back from the columns: an event byte for byte, a wreck too."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from analytics.columns import SCHEMA, encode_entries
from analytics.mirror import MIRRORS, Mirror
from analytics.rows import rebuild
from eventlog import Codec, EntryId, RawEntry
from eventlog.errors import UndecodablePayload

CODEC = Codec()

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=9)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=5,
)
anything = json_values | st.integers(-(2**70), 2**70)


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """An event of the vocabulary as its producer would write it, any optional field present."""
    mirror = draw(st.sampled_from(MIRRORS))
    document: dict[str, Any] = {"type": mirror.name}
    for field in msgspec.structs.fields(mirror.struct):
        if field.name in (
            "conversation",
            "id",
            "session",
            "letter",
            "home",
            "transcript",
            "erasure",
        ):
            document[field.name] = draw(names)
        elif field.required or draw(st.integers(0, 3)) == 0:
            document[field.name] = draw(_value(mirror, field))
    return document


def _value(mirror: Mirror, field: msgspec.structs.FieldInfo) -> st.SearchStrategy[Any]:
    kind = mirror.fields[field.name]
    info = msgspec.inspect.type_info(field.type)
    parts = getattr(info, "types", (info,))
    choices = [v for p in parts for v in getattr(p, "values", ())]
    if choices:
        return st.sampled_from(choices)
    if kind == "text":
        return texts
    if kind == "boolean":
        return st.booleans()
    if kind in ("integer", "time"):
        return st.integers(-(2**62), 2**62)
    if field.name == "items":
        return st.lists(texts, max_size=2)
    if field.name == "values":
        return st.dictionaries(texts, texts, max_size=2)
    if field.name == "attachments":
        return st.lists(st.fixed_dictionaries({"url": texts}, optional={"name": texts}), max_size=2)
    if field.name == "failures":
        numbers = st.integers(1, 2**62)
        failure = {"attempt": numbers, "failed_at": numbers, "error": texts}
        return st.lists(st.fixed_dictionaries(failure, optional={"code": texts}), max_size=2)
    return st.dictionaries(texts, json_values, max_size=2)


def back(raws: list[bytes]) -> tuple[list[bytes], list[bytes | None]]:
    given_entries = [RawEntry(EntryId(1_700_000_000_000, n), raw) for n, raw in enumerate(raws, 1)]
    table = encode_entries(1, given_entries, CODEC)
    assert table.schema == SCHEMA
    rebuilt = rebuild(table)
    assert [entry.id for entry in rebuilt] == [entry.id for entry in given_entries]
    filled = [name for name in SCHEMA.names if table[name].null_count < len(table)]
    assert rebuild(table.select(filled)) == rebuilt  # a reader leaves empty columns out
    assert rebuild(table.slice(1)) == rebuilt[1:]
    return [entry.raw for entry in rebuilt], table["raw"].to_pylist()


@given(st.lists(documents(), min_size=1, max_size=8))
def test_an_appended_event_comes_back_byte_for_byte_without_being_kept_whole(
    wholes: list[dict[str, Any]],
) -> None:
    raws = [CODEC.encode(CODEC.decode(msgspec.json.encode(whole))) for whole in wholes]
    rebuilt, kept = back(raws)
    assert rebuilt == raws
    assert kept == [None] * len(raws)


@given(st.lists(documents(), min_size=1, max_size=4), st.data())
def test_a_foreign_writers_event_comes_back_with_its_meaning(
    wholes: list[dict[str, Any]], data: st.DataObject
) -> None:
    """Keys in another order, unknown keys, values of any type, missing parts of the envelope."""
    raws = []
    for whole in wholes:
        names = data.draw(st.permutations(sorted(whole)))
        bent = {name: whole[name] for name in names}
        for name in data.draw(
            st.lists(st.sampled_from([*sorted(SCHEMA.names), "mine"]), max_size=2)
        ):
            bent[name] = data.draw(anything)
        if data.draw(st.integers(0, 5)) == 0:
            bent.pop(data.draw(st.sampled_from(sorted(bent))))
        raws.append(msgspec.json.encode(bent))
    rebuilt, kept = back(raws)
    for original, copy, whole_text in zip(raws, rebuilt, kept, strict=True):
        if copy != original:
            assert whole_text is None
            assert CODEC.decode(copy) == CODEC.decode(original)


@given(
    st.lists(st.binary(max_size=20) | st.sampled_from([b"{}", b'{"a":[1,', b"{}]}"]), max_size=6)
)
def test_bytes_that_are_no_event_come_back_as_they_were(raws: list[bytes]) -> None:
    rebuilt, kept = back(raws)
    assert rebuilt == raws
    for raw, whole_text in zip(raws, kept, strict=True):
        try:
            CODEC.decode(raw)
        except UndecodablePayload:
            assert whole_text == raw
