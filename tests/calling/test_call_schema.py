"""Values against schemas: what fits is what `jsonschema` says fits."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from runner.data.calling import schema, schema_types

NAMES = st.sampled_from(["a", "b", "c"])
SCALARS = st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.0, 1.0, 1.5, "", "a", "b"])
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=6
)
TYPES = st.sampled_from(schema_types.TYPES)


def keywords(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    some = st.lists(inner, min_size=1, max_size=2)
    return st.fixed_dictionaries(
        {},
        optional={
            "type": TYPES | st.lists(TYPES, min_size=1, max_size=3, unique=True),
            "enum": st.lists(SCALARS, min_size=1, max_size=3),
            "const": SCALARS,
            "properties": st.dictionaries(NAMES, inner, max_size=2),
            "required": st.lists(NAMES, max_size=2, unique=True),
            "additionalProperties": inner,
            "items": inner,
            "prefixItems": some,
            "minItems": st.integers(0, 2),
            "maxItems": st.integers(0, 2),
            "anyOf": some,
            "oneOf": some,
            "allOf": some,
        },
    )


SCHEMAS = st.recursive(st.booleans() | st.just({}), keywords, max_leaves=6)


@settings(deadline=None)
@given(VALUES, SCHEMAS)
def test_a_value_fits_where_jsonschema_says_so(value: Any, given_schema: Any) -> None:
    told = list(schema.misfits(value, given_schema, "x", {}))
    assert (not told) == Draft202012Validator(given_schema).is_valid(value), told


@settings(deadline=None)
@given(VALUES, SCHEMAS)
def test_putting_a_sound_schema_in_order_changes_nothing(value: Any, given_schema: Any) -> None:
    ordered, faults = schema_types.normalised(given_schema, "p")
    assert not faults
    assert Draft202012Validator(ordered).is_valid(value) == Draft202012Validator(given_schema).is_valid(value)


@settings(deadline=None)
@given(st.recursive(VALUES, keywords, max_leaves=6), VALUES)
def test_any_value_is_a_schema_or_told(anything: Any, value: Any) -> None:
    ordered, faults = schema_types.normalised(anything, "p")
    assert all(message.startswith("`p") for message, _ in faults)
    assert faults or all("`x" in told for told in schema.misfits(value, ordered, "x", {}))


def test_names_of_types() -> None:
    given_schema = {
        "type": "dict",
        "properties": {
            "type": {"type": "float"},
            "b": {"type": ["str", "int", "STRING"]},
            "c": {"type": "any", "default": None},
        },
        "required": None,
    }
    assert schema_types.normalised(given_schema, "p") == (
        {
            "type": "object",
            "properties": {"type": {"type": "number"}, "b": {"type": ["string", "integer"]}, "c": {"default": None}},
        },
        [],
    )
