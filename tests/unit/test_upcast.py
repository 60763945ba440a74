from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.errors import UpcasterGap
from eventlog.upcast import check_chains, upcast


def stepping(document):
    return {**document, "steps": [*document.get("steps", []), document.get("schema", 1)]}


class TestUpcast:
    @given(st.integers(1, 9), st.integers(1, 9))
    def test_one_step_after_the_other_from_where_it_is(self, schema, current):
        upcasters = {("t", n): stepping for n in range(1, 9)}
        document = {"type": "t", "schema": schema}
        result = upcast(document, current, upcasters)
        assert result.get("steps", []) == list(range(schema, current))
        assert result["schema"] == max(schema, current)
        assert document == {"type": "t", "schema": schema}, "the input is not changed"

    def test_without_a_schema_it_is_the_first(self):
        assert upcast({"type": "t"}, 2, {("t", 1): stepping})["steps"] == [1]

    def test_the_step_and_not_the_upcaster_sets_the_schema(self):
        result = upcast({"type": "t", "schema": 1}, 2, {("t", 1): lambda d: {**d, "schema": 77}})
        assert result["schema"] == 2


class TestChains:
    def test_whole_chains_pass(self):
        check_chains({"a": 1, "b": 3}, {("b", 1): stepping, ("b", 2): stepping})

    @pytest.mark.parametrize("missing", [1, 2, 3])
    def test_each_missing_step_is_named(self, missing):
        upcasters = {("t", n): stepping for n in (1, 2, 3) if n != missing}
        with pytest.raises(UpcasterGap, match=rf"schema {missing}\b.*\('t', {missing}\)"):
            check_chains({"t": 4}, upcasters)

    @pytest.mark.parametrize("schema", [2, 3])
    def test_an_upcaster_beyond_the_current_schema_is_a_forgotten_version(self, schema):
        with pytest.raises(UpcasterGap, match="schema_version"):
            check_chains({"t": 2}, {("t", 1): stepping, ("t", schema): stepping})

    def test_upcasters_of_types_that_this_program_does_not_know_are_no_matter(self):
        check_chains({"t": 1}, {("theirs", 1): stepping})
