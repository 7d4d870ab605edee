"""JSON that says where it is wrong takes what JSON is, and nothing more."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from runner.data import strict_json


@settings(max_examples=300, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=10,
    )
)
def test_strict_json_reads_what_json_writes(value: Any) -> None:
    assert strict_json.Decoder().whole(json.dumps(value, indent=1)) == value


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet='{}[]",:01eE.-\\u \n\tntfax', max_size=40))
def test_strict_json_takes_no_more_than_json_does(text: str) -> None:
    try:
        strict_json.Decoder().whole(text)
    except strict_json.Invalid as error:
        assert 0 <= error.position <= len(text) and error.message[0].islower() | (error.message[0] == "`")
    else:
        json.loads(text)
