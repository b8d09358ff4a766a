"""Canonical JSON: the standard library's own words, one text for one value."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.jsontext import dumps, loads

plain = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
values = st.recursive(plain, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@given(values)
def test_the_text_is_that_of_json_with_sorted_keys_and_comes_back(value: Any) -> None:
    text = dumps(value)
    assert text == json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert loads(text) == loads(f" {text}\n") == value
    if text.isascii():
        assert loads(text.encode()) == value


def test_numbers_that_json_has_no_word_for_are_null_wherever_they_are() -> None:
    assert dumps({"b": [math.nan, 1.5], "a": (math.inf, -math.inf)}) == '{"a":[null,null],"b":[null,1.5]}'
    assert dumps({"a": 1.5}) == '{"a":1.5}', "an error leaves nothing behind"


@pytest.mark.parametrize("text", ["", "{", '{"a":1}x', "1 2", "nul", "[1,]"])
def test_what_is_no_json_is_an_error(text: str) -> None:
    with pytest.raises(json.JSONDecodeError):
        loads(text)


def test_what_json_cannot_say_is_an_error() -> None:
    with pytest.raises(TypeError):
        dumps({"a": object()})
