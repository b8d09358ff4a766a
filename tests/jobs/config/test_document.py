"""Reading YAML: places, the core schema, bounds."""

import json
import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from jobs.config.document import parse
from jobs.config.mistakes import ConfigError, Place


def test_every_key_and_value_has_its_line_and_column() -> None:
    document = parse("a: 1\nb:\n  c: [x, {d: 2}]\n", "f.yaml")
    assert document.value == {"a": 1, "b": {"c": ["x", {"d": 2}]}}
    assert {path: (p.line, p.column) for path, p in document.values.items()} == {
        (): (1, 1), ("a",): (1, 4), ("b",): (3, 3), ("b", "c"): (3, 6),
        ("b", "c", 0): (3, 7), ("b", "c", 1): (3, 10), ("b", "c", 1, "d"): (3, 14),
    }  # fmt: skip
    assert document.keys["b", "c"] == Place(3, 3, "f.yaml")
    assert str(document.place(("b", "c", 1, "d"))) == "f.yaml:3:11"
    assert document.place(("b", "nothing")) == Place(2, 1, "f.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E3", 1000.0),
        (".5", 0.5),
        ("-3", -3),
        ("0x1f", 31),
        ("0o17", 15),
        ("017", 17),
        ("no", "no"),
        ("off", "off"),
        ("y", "y"),
        ("12:30", "12:30"),
        ("2024-01-02", "2024-01-02"),
        ("1_000", "1_000"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("'1'", "1"),
        ("1.5.0", "1.5.0"),
        (".inf", math.inf),
        ("-.Inf", -math.inf),
        ("[1]", [1]),
        ("=", "="),
        ("!!str 5", "5"),
        ("!!float 5", 5.0),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    found = parse(f"a: {text}\n", "f").value
    assert found == {"a": value}
    assert type(found["a"]) is type(value)


words = st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"])).filter(
    lambda word: word != "<<"
)
numbers = st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False)
plain = st.recursive(
    st.none() | st.booleans() | numbers | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=10,
)


@given(plain)
def test_what_json_says_is_read_as_it_is(value: object) -> None:
    assert parse(json.dumps({"v": value}), "f").value == {"v": value}


def test_aliases_are_followed_but_few_and_small() -> None:
    assert parse("a: &x [1]\nb: *x\n", "f").value == {"a": [1], "b": [1]}
    many = "a: &x 1\nb: [" + ", ".join(["*x"] * 65) + "]\n"
    with pytest.raises(ConfigError, match=r"^f:2:\d+  more than 64 aliases"):
        parse(many, "f")
    assert parse(many.replace(", *x]", "]"), "f").value["b"] == [1] * 64
    laughs = "a0: &a0 [x, x, x, x, x, x, x, x]\n"
    laughs += "".join(f"a{n}: &a{n} [" + ", ".join([f"*a{n - 1}"] * 8) + "]\n" for n in range(1, 9))
    with pytest.raises(ConfigError, match="aliases make it too large"):
        parse(laughs, "f")
    with pytest.raises(ConfigError, match="aliases make it too large"):
        parse("a: &a [*a]\n", "f")


def test_nesting_is_bounded() -> None:
    for text in ("[" * 40, "[" * 50_000, "- " * 40 + "x", "{a: " * 40):
        with pytest.raises(ConfigError, match=r"more than 32 levels of nesting|not YAML"):
            parse(text, "f")


@pytest.mark.parametrize(
    "text",
    ["!!python/name:os.system", "!!binary aGk=", "!!set {a}", "!!timestamp 2024-01-02", "!mine x", "!!int x"],
)
def test_tags_beyond_the_core_are_refused(text: str) -> None:
    with pytest.raises(
        ConfigError, match=r"f:1:4  a  (the tag .* is not allowed|is not a value of the type int)"
    ):
        parse(f"a: {text}\n", "f")


@given(st.text(max_size=60) | st.text("[]{}&*!|>%@`:,-?#'\"ab1. \n\t<", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        shown = yaml.safe_dump(parse(text, "f").value)  # plain data only
    except ConfigError as e:
        shown = str(e) if str(e).startswith("f:") else ""
    assert shown
