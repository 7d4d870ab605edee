"""The pay for JSON: that it is one, that its fields are right, and that it fits a schema."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loading import reward

valid_json = reward("valid_json")
json_fields = reward("json_fields")
json_schema = reward("json_schema")

SCALARS = (
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 1.0, 2.0]) | st.text("ab1 ", max_size=3)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3)


@pytest.mark.parametrize(
    ("completion", "wanted"),
    [
        ('{"a": 1}', 1),
        ('\n{"a": 1}\n', 1),
        ('```json\n{"a": 1}\n```', 1),
        ('```\n{"a": 1}\n```', 1),
        ('Here: {"a": 1}', 0.5),
        ('Here:\n```json\n{"a": 1}\n```\nDone.', 0.5),
        ('```python\nx = 1\n```\n```json\n{"a": 1}\n```', 0.5),
        ('{"a": 1} {"b": 2}', 0),
        ('```json\n{"a": 1}\n```\n```json\n{"a": 2}\n```', 0),
        ('{"a": 1', 0),
        ('{"items": [{"a": 1}, {"a":', 0),
        ("{}", 0),
        ("[1]", 0),
        ('[{"a": 1}]', 0),
        ('```json\n[{"a": 1}]\n```', 0),
        ("1", 0),
        ('"a"', 0),
        ("null", 0),
        ("{'a': 1}", 0),
        ('{"a": NaN}', 0),
        ('{"a": 1e999}', 0),
        ('{"a": 1, "a": 2}', 0),
        ('{"a": ' + "9" * 5000 + "}", 0),
        ('{"a":' * 5000, 0),
    ],
)
def test_json_is_one_value_that_is_read_strictly(completion: str, wanted: float) -> None:
    assert valid_json("", completion, {}) == wanted


def test_other_kinds_and_empty_values_pay_where_asked() -> None:
    assert valid_json("", "[1]", {}, kind="array") == valid_json("", "[1]", {}, kind="any") == 1
    assert valid_json("", "{}", {}, allow_empty=True) == 1
    assert valid_json("", 'Here: {"a": 1}', {}, around=0) == 0


@given(OBJECTS.filter(bool), st.text("ab \n", min_size=1).filter(str.strip))
def test_any_object_is_json_and_text_around_it_costs(value: dict[str, Any], words: str) -> None:
    assert valid_json("", json.dumps(value), {}) == 1
    assert valid_json("", words + json.dumps(value, indent=1), {}) == 0.5


ORDER = {"name": "Kofi", "item": "brown bucket", "quantity": 3, "day": "monday"}


@pytest.mark.parametrize(
    ("given_object", "wanted"),
    [
        (ORDER, 1),
        ({**ORDER, "quantity": 3.0}, 1),
        ({**ORDER, "quantity": "3"}, 0.75),
        ({**ORDER, "day": "Monday"}, 0.75),
        ({"name": "Kofi"}, 0.25),
        ({**ORDER, "note": "x"}, 0.8),
        ({}, 0),
        ([ORDER], 0),
    ],
)
def test_each_equal_field_pays(given_object: Any, wanted: float) -> None:
    for answer in (ORDER, json.dumps(ORDER)):
        assert json_fields("", json.dumps(given_object), {"answer": answer}) == wanted


def test_inner_objects_and_lists_pay_in_part() -> None:
    row = {"answer": {"to": {"city": "Bern", "code": 3000}, "tags": ["a", "b"]}}
    assert json_fields("", '{"to": {"city": "Bern", "code": 1}, "tags": ["a", "b", "c", "d"]}', row) == 0.5
    assert json_fields("", '{"to": "Bern", "tags": true}', row) == 0
    assert json_fields("", '{"day": "MON"}', {"answer": {"day": "mon"}}, ignore_case=True) == 1
    assert json_fields("", "[true]", {"answer": [1]}) == 0


def test_several_objects_are_no_answer() -> None:
    assert json_fields("", '{"a": 1} {"a": 2}', {"answer": {"a": 1}}) == 0
    assert json_fields("", '{"a": 2, "a": 1}', {"answer": {"a": 1}}) == 0


@pytest.mark.parametrize("answer", [None, 3, "text", "{", "3", '{"a": NaN}'])
def test_a_row_without_an_object_is_refused(answer: Any) -> None:
    with pytest.raises(ValueError, match="must hold a JSON object"):
        json_fields("", "{}", {"answer": answer})


@given(OBJECTS, OBJECTS)
def test_the_right_object_alone_pays_in_full(right: dict[str, Any], other: dict[str, Any]) -> None:
    assert json_fields("", json.dumps(right), {"answer": json.dumps(right)}) == 1
    full = json_fields("", json.dumps(other), {"answer": right}) == 1
    assert full == (tagged(right) == tagged(other))


@given(OBJECTS.filter(bool), st.data())
def test_putting_a_field_right_never_pays_less(right: dict[str, Any], data: st.DataObject) -> None:
    other = data.draw(st.fixed_dictionaries({}, optional=dict.fromkeys(right, VALUES)))
    key = data.draw(st.sampled_from(sorted(right)))
    better = {**other, key: right[key]}
    row = {"answer": right}
    assert json_fields("", json.dumps(better), row) >= json_fields("", json.dumps(other), row) - 1e-12


def tagged(value: Any) -> Any:
    """A form in which true is not 1, and runs of white space are one space."""
    if isinstance(value, dict):
        return {key: tagged(one) for key, one in value.items()}
    if isinstance(value, list):
        return [tagged(one) for one in value]
    return (isinstance(value, bool), " ".join(value.split()) if isinstance(value, str) else value)


PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "kind": {"enum": ["a", "b"]},
        "tags": {"type": "array", "items": {"type": "string"}, "minItems": 1},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ({"name": "Ann", "age": 3}, 1),
        ({"name": "Ann", "age": 3, "kind": "a", "tags": ["x"]}, 1),
        ({"name": "Ann", "age": 3.0}, 1),
        ({}, 0),
        ({"name": None, "age": None}, 0),
        ({"name": "Ann"}, 0.5),
        ({"name": "Ann", "age": True}, 0.5),
        ({"name": "Ann", "age": 200}, (1 + 2 / 3) / 2),
        ({"name": "Ann", "age": 3, "x": 1, "y": 1}, 0.5),
        ({"name": "Ann", "age": 3, "tags": []}, 2 / 3),
        ({"name": "Ann", "age": 3, "tags": ["x", 1, 1, 1]}, (2 + (1 + 0.25) / 2) / 3),
        ([], 0),
    ],
)
def test_the_parts_of_a_schema_that_are_met_pay(value: Any, wanted: float) -> None:
    assert json_schema("", json.dumps(value), {}, schema=PERSON) == pytest.approx(wanted)
    assert json_schema("", json.dumps(value), {"s": json.dumps(PERSON)}, column="s") == pytest.approx(wanted)
    assert json_schema("", "x " + json.dumps(value), {}, schema=PERSON) == pytest.approx(wanted / 2)


def test_many_right_items_do_not_buy_a_missing_field() -> None:
    value = {"name": "Ann", "tags": ["x"] * 1000}
    assert json_schema("", json.dumps(value), {}, schema=PERSON) == pytest.approx(2 / 3)


def test_references_lead_into_definitions() -> None:
    tree = {
        "$defs": {
            "node": {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}}}
        },
        "$ref": "#/$defs/node",
    }
    assert json_schema("", '{"next": {"next": null}}', {}, schema=tree) == 1
    assert json_schema("", '{"next": {"next": 3}}', {}, schema=tree) < 1


@pytest.mark.parametrize(
    "schema",
    [
        {"oneOf": []},
        {"properties": {"a": {"format": "date"}}},
        {"type": "text"},
        {"type": []},
        {"enum": []},
        {"required": "a"},
        {"minimum": "3"},
        {"minLength": -1},
        {"minItems": True},
        {"multipleOf": 0},
        {"pattern": "("},
        {"items": [{}]},
        {"properties": {"a": 3}},
        {"anyOf": []},
        {"$ref": "#/$defs/none"},
        {"$ref": "http://example.com"},
        {"$ref": "#"},
        {"$defs": {"a": {"$ref": "#/$defs/a"}}, "properties": {"x": {"$ref": "#/$defs/a"}}},
        {"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"},
    ],
)
def test_a_schema_that_cannot_be_checked_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="schema"):
        json_schema("", '{"x": {}}', {}, schema=schema)


def schemas() -> st.SearchStrategy[dict[str, Any]]:
    count = st.integers(0, 3)
    number = st.integers(-2, 2)
    plain = {
        "type": st.sampled_from(["object", "array", "string", "integer", "number", "boolean", "null",
        ["string", "null"]]),
        "enum": st.lists(VALUES, min_size=1, max_size=3),
        "const": VALUES,
        "minLength": count, "maxLength": count, "minItems": count, "maxItems": count, "minProperties": count,
        "maxProperties": count, "minimum": number, "maximum": number, "exclusiveMinimum": number,
        "exclusiveMaximum": number, "multipleOf": st.integers(1, 3), "uniqueItems": st.booleans(),
        "pattern": st.sampled_from(["a", "^b", "1$"]), "required": st.lists(st.sampled_from("abc"), unique=True),
    }  # fmt: skip
    return st.recursive(
        st.fixed_dictionaries({}, optional=plain),
        lambda inner: st.fixed_dictionaries(
            {},
            optional={
                **plain,
                "properties": st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
                "additionalProperties": inner | st.booleans(),
                "items": inner | st.booleans(),
                "anyOf": st.lists(inner, min_size=1, max_size=2),
            },
        ),
        max_leaves=5,
    )


@settings(max_examples=400, deadline=None)
@given(schemas().filter(bool), OBJECTS | st.lists(VALUES, max_size=3))
def test_full_pay_is_what_a_validator_calls_valid(schema: dict[str, Any], value: Any) -> None:
    score = json_schema("", json.dumps(value), {}, schema=schema)
    assert 0 <= score <= 1
    assert (score == 1) == jsonschema.Draft202012Validator(schema).is_valid(value)
