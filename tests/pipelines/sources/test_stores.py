"""What is found in a folder, and what it is called there."""

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.sources import Entry, open_entry
from pipelines.sources.stores import LocalStore, make_unique, told_name

Lister = Callable[..., list[Entry]]
Tree = Callable[..., Path]
NFD = unicodedata.normalize("NFD", "café.jpg")
ALIKE = ("café.jpg", NFD, told_name(NFD), told_name(told_name(NFD)))  # NFD is the only one that is not NFC


@pytest.mark.parametrize("order", [ALIKE, ALIKE[::-1]])
@pytest.mark.parametrize("captions", [(), ALIKE, ALIKE[1::2], ALIKE[::2]])
def test_a_file_that_is_called_as_another_is_told_takes_nobodys_name(
    listing: Lister, tree: Tree, order: tuple[str, ...], captions: tuple[str, ...]
) -> None:
    root = tree("plain.jpg")
    names: dict[str, str] = {}
    for name in order:
        (root / name).write_text(name)
        if name in captions:
            (root / name).with_suffix(".txt").write_text(name)
        before, names = names, {}
        for entry in listing(root):
            raw, sidecars = open_entry(entry)
            names[raw.read().decode()] = entry.name
            assert sidecars == ({"txt": raw.content} if raw.read().decode() in captions else {})
        assert before.items() < names.items()
    assert len({*names.values()}) == len(names) == len(order) + 1


@pytest.mark.parametrize("forms", [("café", NFD[:-4]), ("caf\\xe9", os.fsdecode(b"caf\xe9"))])
def test_folders_of_one_name_are_refused_and_named(tmp_path: Path, forms: tuple[str, str]) -> None:
    store = LocalStore()
    for form in forms:
        (tmp_path / form).mkdir()
    for node in make_unique(list(store.scan(str(tmp_path)))):
        assert node.refusal is not None
        assert all(ascii(str(one.uri)) in node.refusal[1] for one in store.scan(str(tmp_path)))
    (tmp_path / forms[0]).rmdir()
    (tmp_path / forms[0]).write_text("a file takes no name from a folder")
    assert [(n.name, n.refusal) for n in make_unique(list(store.scan(str(tmp_path)))) if n.is_folder] == [
        (forms[0], None)
    ]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize(("name", "kind"), [("café", "image"), ("café.zarr", "hyperspectral")])
def test_a_folder_in_another_form_keeps_its_name_until_its_twin_comes(
    listing: Lister, tmp_path: Path, order: tuple[int, int], name: str, kind: str
) -> None:
    forms = [unicodedata.normalize(form, name) for form in ("NFC", "NFD")]
    for i in order:
        names = [entry.name for entry in listing(tmp_path, kind, allow_empty=True)]
        (tmp_path / forms[i]).mkdir()
        (tmp_path / forms[i] / "0.jpg").write_text(forms[i])
    assert names in ([f"{name}/0.jpg"], [f"{name}/"])
    with pytest.raises(ValueError, match=r"cafe\\u0301.* and .*caf\\xe9.* are one in NFC; rename one"):
        listing(tmp_path, kind)
    (tmp_path / "t.csv").write_text("\n".join(["uri", *(f"{form}/0.jpg" for form in forms)]))
    both = listing(tmp_path / "t.csv")
    assert [open_entry(entry)[0].content for entry in both] == [form.encode() for form in forms]
