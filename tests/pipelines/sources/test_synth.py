"""Samples a modality makes itself, opened like files."""

from collections.abc import Callable

import pytest

import modalities
from pipelines.sources import Entry, open_entry

Lister = Callable[..., list[Entry]]


@pytest.mark.parametrize("name", modalities.names())
def test_every_modality_reads_its_own_synthesis(listing: Lister, name: str) -> None:
    modality = modalities.get(name)
    entries = listing(None, modality, synth=3, seed=7)
    assert [entry.name for entry in entries] == ["synth/000000", "synth/000001", "synth/000002"]
    assert [entry.group for entry in entries] == [entry.name for entry in entries]
    raw, sidecars = open_entry(Entry.from_json(entries[1].to_json()))
    files = dict(modality.synth(8))
    extensions = {raw.name.removeprefix("synth/000001")[1:]: raw.content}
    for companion, content in raw.companions.items():
        extensions[companion.removeprefix("000001.")] = content
    assert extensions | sidecars == files
    modality.probe(raw)


def test_seeds_do_not_overlap_in_order(listing: Lister) -> None:
    uris = [entry.content.uri for entry in listing(None, "image", synth=3, seed=5)]
    assert uris == ["synth:image:5", "synth:image:6", "synth:image:7"]
    assert [entry.content.uri for entry in listing(None, "image", synth=1)] == ["synth:image:0"]
