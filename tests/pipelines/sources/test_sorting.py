"""Folders of any size: what is sorted on disk, and listed part by part, is what is listed at once."""

import errno
import os
import random
import tempfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import modalities
from pipelines.sources import Entry, find_objects, sorting, stores
from pipelines.sources.groups import by_stem, reach_of
from pipelines.sources.names import looked_at
from pipelines.sources.sorting import in_order
from pipelines.sources.stores import Node
from tests.pipelines.sources.conftest import MODALITIES, Lister, named
from tests.pipelines.sources.test_names import source

ENDS = [
    *(
        "jpg",
        "JPG",
        "txt",
        "TXT",
        "cls",
        "json",
        "seg.png",
        "png",
        "tar",
        "tar.gz",
        "md",
        "mp4",
        "hdr",
        "img",
    ),
    *(
        "tif",
        "zarr/0",
        "zarr/1",
        "wl/w.csv",
        "npy",
        "laz",
        "copc.laz",
        "pcd.bin",
        "bin",
        "csv",
        "a",
        "b",
        "h5",
    ),
]
WHOLE = [
    "lights.npy",
    "points.npy",
    "lighting.json",
    "frame_1.png",
    ".hidden.jpg",
    "README",
    "x/y.jpg",
    "a/1.jpg",
]
PARTS = [
    "a",
    "A",
    "b",
    "ab",
    "a-1",
    "a.b",
    "A.b",
    "é",
    "É",
    "ß",
    "ss",
    "a~2",
    "e\N{COMBINING ACUTE ACCENT}",
    "日",
    "e\N{COMBINING ACUTE ACCENT}.001",
    "é.001",
    "é.002",
    "e\N{COMBINING ACUTE ACCENT}.002",
    "é~2",
    "A~2~2",
    "a\udcff.1",
    "a\\xff.1",
    "a\\xff.2",
    "a\\xff~2.1",
    "frame_é_1",
    "frame_e\N{COMBINING ACUTE ACCENT}_1",
    "a_img",
    "a_mask",
    "scene_1",
]
# Objects of which others have neither the stem nor an end of it.
REACHING = {
    "far names": named(
        *("far names", "*_img.png", "*.b", "*.jpg", "scene_*/", "*_1.png"),
        companions={"*_img.png": ("{stem}_mask.png",), "*.b": ("*.a", "a*/*"), "*_1.png": ("{stem}*.txt",)},
    ),
    "far wholes": named(
        *("far wholes", "lights.npy", "points.npy", "*.npy", "*.jpg", "*.csv"),
        companions={"points.npy": ("*.npy", "*/*.jpg"), "lights.npy": ("{stem}.json", "*_*", "*.001.*")},
    ),
}


@pytest.mark.parametrize(
    "modality", [*MODALITIES, *REACHING, *(f"real {name}" for name in modalities.names())]
)
@pytest.mark.parametrize("seed", range(3))
def test_a_large_folder_lists_as_a_small_one(
    modality: str, seed: int, tmp_path: Path, listing: Lister, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(f"{modality} {seed}")
    kinds = MODALITIES | REACHING
    kind = kinds[modality] if modality in kinds else modalities.get(modality.split()[1])
    for i in range(12):
        grown(root := tmp_path / f"{i}", rng, odd=i % 3 != 1, wholes=i % 2 == 1)
        told = {"labels": rng.choice(["auto", "none", "folder"]), "allow_empty": True}
        told |= {"glob": rng.choice(["**/*.jpg", "*.txt", "a*"])} if i % 5 == 0 else {}
        at_once = _found(listing, root, kind, **told)
        for held in (1, 3, 16):
            monkeypatch.setattr(sorting, "HELD", held)
            assert _found(listing, root, kind, **told) == at_once, f"{root} {held}"
        monkeypatch.undo()


def grown(root: Path, rng: random.Random, *, odd: bool, wholes: bool = True) -> None:
    """A folder of names that take part in one another."""
    parts = rng.sample(PARTS[: None if odd else 7], 6)
    names = {f"{part}.{end}" for part in parts for end in rng.sample(ENDS, rng.randint(1, 4))}
    for name in {*names, *rng.sample([*parts, *WHOLE], rng.randint(0, 2) if wholes else 0)}:
        path = root / f"{name}_" if (root / name).is_dir() else root / name
        if not path.parent.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x" * rng.randint(0, 3))


def _found(listing: Lister, *source: Any, **told: Any) -> list[Entry] | str:
    try:
        return listing(*source, **told)
    except ValueError as error:  # folders of one name
        return str(error)


def test_a_name_that_another_could_have_is_looked_for_among_all(
    tmp_path: Path, listing: Lister, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = stores.told_name(other := "cafe\N{COMBINING ACUTE ACCENT}.jpg")
    for name in ("a.jpg", other, told, "b.jpg", "c.jpg"):
        (tmp_path / name).write_bytes(name.encode())
    at_once = listing(tmp_path)
    assert len({entry.name for entry in at_once}) == 5
    monkeypatch.setattr(sorting, "HELD", 2)
    assert listing(tmp_path) == at_once


COMBINED = "e\N{COMBINING ACUTE ACCENT}"
KELVIN = "\N{KELVIN SIGN}.jpg"


@pytest.mark.parametrize(
    ("names", "modality"),
    [
        # Of two that are called the same the second is numbered as another may be called.
        ([b"a\xff.jpg", rb"a\xff.jpg", rb"a\xff~2.jpg", b"b.jpg"], "image"),
        # A twin of other letters gets digits by which it takes what is called so.
        ([KELVIN, "K.jpg", stores.told_name(KELVIN).replace("jpg", "txt")], "image"),
        ([KELVIN, "K.jpg", stores.told_name(KELVIN).replace("jpg", "TXT").upper()], "image"),
        # All that begins as a twin goes by its digits, also what another object takes.
        (["é.jpg", f"{COMBINED}.jpg", f"{COMBINED}.x_1.jpg", "lights.npy", "b.jpg"], "far wholes"),
        (["lighting.json", "frames.npy", "normals.npy", "mask.png", "b.npy"], "real lighting"),
        (["~2.las", "~2.txt", "points.npy", "x.npy"], "real pointcloud"),
        (["~2", "~2.tif", "~2.seg.png", f"{COMBINED}.tif"], "real hyperspectral"),
    ],
)  # fmt: skip
def test_what_may_be_called_alike_is_looked_at_together(
    names: list[str | bytes], modality: str,
    tmp_path: Path, listing: Lister, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    kind = (MODALITIES | REACHING).get(modality) or modalities.get(modality.split()[-1])
    for name in map(os.fsencode, names):
        Path(os.fsdecode(bytes(tmp_path) + b"/" + name)).write_bytes(name)
    at_once = listing(tmp_path, kind)
    assert len({entry.name for entry in at_once}) == len(at_once)
    monkeypatch.setattr(sorting, "HELD", 1)
    assert listing(tmp_path, kind) == at_once


def test_keys_without_a_name_are_told_apart_from_what_is_called_so() -> None:
    nodes = [
        Node("(no name)", "memory://a//", refusal=("bad-name", "copy it")),
        Node("(no name)", "memory://a/(no name)"),
        Node("(no name)~2", "memory://a/(no name)~2"),
    ]
    image = modalities.get("image")
    found = [node for _, group in by_stem(nodes, image, reach_of(image)) for node in group]
    assert sorted(found) == sorted(stores.make_unique(nodes))
    assert len({node.name for node in found}) == 3


def test_names_of_a_large_folder_come_in_lots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(50):
        (tmp_path / f"{i:02}.jpg").write_bytes(b"x")
    image = modalities.get("image")
    at_once = list(looked_at(find_objects(source(tmp_path), image)))
    monkeypatch.setattr(sorting, "HELD", 8)
    lots: list[Any] = list(find_objects(source(tmp_path), image))
    assert [len(lot.names) for lot in lots] == [8] * 6 + [2]
    assert list(looked_at(lots)) == at_once


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=3), st.integers())), st.sampled_from([1, 2, 5, 17, 40]))
def test_what_is_sorted_on_disk_is_sorted(items: list[tuple[str, int]], held: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sorting, "HELD", held)
        assert list(in_order(iter(items), lambda item: item)) == sorted(items)


def test_packed_items_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorting, "HELD", 3)
    items = [Path(f"{i % 7}/{i}") for i in range(100)]
    assert list(in_order(items, lambda path: path, str, Path)) == sorted(items)


def test_a_full_disk_ends_the_listing_and_refuses_no_folder(
    tmp_path: Path, listing: Lister, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(9):
        (tmp_path / f"{i}.jpg").write_bytes(b"x")
        (tmp_path / f"{i}.txt").write_bytes(b"x")
    monkeypatch.setattr(sorting, "HELD", 2)

    def full(*_: Any) -> Iterator[Any]:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path))

    monkeypatch.setattr(sorting, "_write", full)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(OSError, match="TMPDIR"):
        listing(tmp_path, "image")


@pytest.mark.parametrize(
    ("modality", "beginning", "ends", "others"),
    [
        ("image", "", ("jpg",), ()),
        ("image", "", ("jpg", "txt"), ()),
        ("image", "2024.06.01-frame.", ("jpg", "txt"), ()),
        ("image", "e\N{COMBINING ACUTE ACCENT}-", ("jpg", "txt"), ("é-000007.jpg",)),
        ("image", "e\N{COMBINING ACUTE ACCENT}.", ("jpg", "txt"), ("é.000007.jpg",)),
        ("image", "é-", ("jpg", "txt"), ("a\udcff.jpg", "a\\xff.jpg")),
        ("pointcloud", "", ("laz", "txt"), ("points.npy", "colors.npy")),
        ("lighting", "", ("png", "txt"), ("lights.npy", "rock_000.png")),
        ("hyperspectral", "", ("hdr", "img"), ("000003.zarr/0",)),
    ],
)
def test_memory_is_that_of_a_part(
    modality: str,
    beginning: str,
    ends: tuple[str, ...],
    others: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sorting, "HELD", 256)
    monkeypatch.setattr(sorting, "_BLOCK", 4)
    monkeypatch.setattr(stores, "_NAMED", 256)
    peaks, found = [], []
    for count in (700, 4200):
        root = tmp_path / f"{count}"
        for name in others:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).touch()
        root.mkdir(exist_ok=True)
        for i in range(count):
            for end in ends:
                (root / f"{beginning}{i:06}.{end}").touch()
        kind = modalities.get(modality)
        tracemalloc.start()
        found.append(sum(1 for _ in looked_at(find_objects(source(root), kind))))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert found[1] - found[0] in (3500, 2 * 3500)
    assert peaks[1] < 2 * peaks[0], f"{peaks} bytes for six times the files"
