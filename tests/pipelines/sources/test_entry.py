"""Entries travel as text and come back equal."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modalities.base import BadSample
from pipelines.sources import Entry, Part, open_entry
from pipelines.sources.entry import refused

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
PARTS = st.builds(
    Part, uri=TEXT, size=st.integers(-1, 2**60), version=TEXT, offset=st.just(0), ranged=st.just(False)
) | st.builds(
    Part,
    uri=TEXT,
    size=st.integers(0, 2**60),
    version=TEXT,
    offset=st.integers(0, 2**60),
    ranged=st.just(True),
)
ENTRIES = st.builds(
    Entry,
    name=TEXT,
    content=PARTS,
    companions=st.dictionaries(TEXT, PARTS, max_size=3),
    sidecars=st.dictionaries(TEXT, PARTS, max_size=3),
    label=st.none() | TEXT,
    caption=st.none() | TEXT,
    group=TEXT,
    refusal=st.none() | st.tuples(TEXT, TEXT),
)


@given(ENTRIES)
def test_json_brings_back_the_entry(entry: Entry) -> None:
    line = entry.to_json()
    assert Entry.from_json(line) == entry
    assert "\n" not in line
    line.encode()


def test_equal_entries_have_equal_json() -> None:
    part = Part(uri="/a", size=1)
    one = Entry(name="a", content=part, sidecars={"cls": part, "txt": part})
    two = Entry(name="a", content=part, sidecars={"txt": part, "cls": part})
    assert one == two
    assert one.to_json() == two.to_json()


def test_plain_entry_is_small() -> None:
    entry = Entry(name="a.jpg", content=Part(uri="/data/a.jpg", size=9, version="17"), group="a")
    assert json.loads(entry.to_json()) == {"name": "a.jpg", "content": ["/data/a.jpg", 9, "17"], "group": "a"}


def test_refused_entry_never_opens() -> None:
    with pytest.raises(BadSample, match="unsafe: a device"):
        open_entry(Entry.from_json(refused("x", "unsafe", "a device", uri="/dev/zero").to_json()))
