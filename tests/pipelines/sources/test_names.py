"""Plain folders are listed by their names alone; what comes of it is what a look at every file gives."""

import pickle
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import modalities
from jobs.chaos.small import PLAIN
from modalities.base import BadSample, Modality
from pipelines.shards.arrivals import write_arrivals
from pipelines.shards.plain import apart
from pipelines.shards.storage import LocalStorage
from pipelines.sources import Entry, Names, find_objects, list_source, open_entry
from pipelines.sources.entry import Part
from pipelines.sources.folder import Folder
from pipelines.sources.names import Listing, batches, looked_at
from pipelines.sources.stores import LocalStore, Mixed

KINDS = ("image", "video", "pointcloud", "hyperspectral", "lighting")
FILES = [
    *("a.jpg", "b.jpg", "a.JPG", "a.b.jpg", "c.png", "a.seg.png", "a.cls", "a.txt", "a.json", "d.mp4"),
    *("README.md", "readme.txt", ".hidden.jpg", "é.jpg", "noext", "_SUCCESS", "e.tif", "e.tif.hdr", "e.img"),
    *("f.copc.laz", "g.laz", "h.pcd.bin", "i.bin", "points.npy", "j.npy", "lights.npy", "k.tar.gz", "l.h5"),
    *("l.seg.png", "lighting.json", "frame_0.png", "m.zarr.zip", "a b.jpg", "n.csv", "o.las", "p.webp"),
]
PAIRED = ["e.tif", "e.tif.hdr", "l.h5"]
ACCENTS = ["e\N{COMBINING ACUTE ACCENT}.jpg", "é.jpg", "b.jpg"]


def source(uri: Path, **fields: Any) -> SimpleNamespace:
    given = {"synth": None, "labels": "auto", "glob": None, "uri_column": "uri", "label_column": "label"}
    return SimpleNamespace(uri=str(uri), caption_column="caption", seed=0, **(given | fields))


def no_names(*_: Any) -> Any:
    raise Mixed


def fill(root: Path, rng: random.Random) -> None:
    for folder in ("", "x", "x/y", "z"):
        pool = rng.choice(
            [
                FILES,
                FILES[:4],
                ["g.laz", "f.copc.laz", "o.las"],
                ["e.tif", "l.h5", "README.md"],
                PAIRED,
                ACCENTS,
            ]
        )
        (root / folder).mkdir(exist_ok=True)
        for name in rng.sample(pool, rng.randint(0, min(4, len(pool)))):
            (root / folder / name).write_bytes(bytes(rng.randint(1, 9)))
    if rng.random() < 0.1:
        (root / "z/link.jpg").symlink_to(root / "x")


@pytest.mark.parametrize("seed", range(5))
def test_names_say_what_a_look_at_every_file_says(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, named = random.Random(seed), 0
    for i in range(30):
        (root := tmp_path / f"{i}").mkdir()
        fill(root, rng)
        for name in KINDS:
            kind, job = (
                modalities.get(name),
                source(root, allow_empty=True, labels=rng.choice(["auto", "none"])),
            )
            found = list(find_objects(job, kind))
            with monkeypatch.context() as patch:
                patch.setattr(LocalStore, "names", no_names)
                patch.setattr(Folder, "_plain", lambda *_: None)
                assert list(looked_at(found)) == list(list_source(job, kind)), f"{seed} {i} {name}"
            named += sum(isinstance(one, Names) for one in found)
    assert named > 20


@pytest.mark.parametrize(
    ("folder", "modality", "num"),
    [("images", "image", 142), ("video", "video", 7), ("points", "pointcloud", 8)],
)
def test_real_folders_are_named(shared_data: Path, folder: str, modality: str, num: int) -> None:
    found = list(find_objects(source(shared_data / folder), modalities.get(modality)))
    assert all(isinstance(one, Names) for one in found) or modality == "pointcloud"
    assert len(list(looked_at(found))) == num


def test_what_went_away_after_it_was_named_is_refused_and_not_forgotten(tmp_path: Path) -> None:
    for name in "abcd":
        (tmp_path / f"{name}.jpg").write_bytes(b"data")
    [found] = find_objects(source(tmp_path, name="mine"), modalities.get("image"))
    (tmp_path / "b.jpg").unlink()
    (tmp_path / "c.jpg").unlink()
    (tmp_path / "c.jpg").symlink_to("/etc/hostname")
    first, gone, link, last = looked_at([found])
    assert [e.name for e in (first, gone, link, last)] == [f"mine/{name}.jpg" for name in "abcd"]
    assert (first.refusal, last.refusal) == (None, None)
    assert (first.content.size, first.group) == (4, "mine/a")
    for entry, reason in ((gone, "unreadable"), (link, "unsafe")):
        with pytest.raises(BadSample, match=reason):
            open_entry(entry)


def test_a_folder_of_a_class_labels_all_that_it_names(tmp_path: Path) -> None:
    for name in ("cat/1.jpg", "cat/2.jpg", "dog/1.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = list(find_objects(source(tmp_path), modalities.get("image")))
    assert [(len(one.names), one.label) for one in found if isinstance(one, Names)] == [
        (2, "cat"),
        (1, "dog"),
    ]


listings = st.lists(
    st.one_of(
        st.integers(0, 9).map(
            lambda n: Names("/f", "f/", [f"{i}.jpg" for i in range(n)], [f"{i}" for i in range(n)])
        ),
        st.just(Entry("e.jpg", Part("/e.jpg", 1))),
    ),
    max_size=12,
)


def names_in(found: list[Listing]) -> list[str]:
    return [name for one in found for name in (one.names if isinstance(one, Names) else [one.name])]


@given(listings, st.integers(1, 7))
def test_batches_hold_everything_once_in_order_and_are_full(found: list[Listing], size: int) -> None:
    got = list(batches(found, size))
    assert [name for batch in got for name in names_in(batch)] == names_in(found)
    assert all(len(names_in(batch)) == size for batch in got[:-1])
    assert all(len(names_in(batch)) <= size for batch in got)


def test_named_files_are_the_survey_that_looked_at_ones_are(tmp_path: Path) -> None:
    (root := tmp_path / "source").mkdir()
    for i in range(50):
        (root / f"{i:02}.jpg").write_bytes(bytes(i + 1))
    kind: Modality = modalities.get("image")
    tell = apart(PLAIN, patterns=kind.patterns)
    storage, job = LocalStorage(tmp_path / "data"), source(root)
    named = write_arrivals(storage, find_objects(job, kind), settings="s", apart=tell)
    assert named == write_arrivals(storage, list_source(job, kind), settings="s", apart=tell)
    assert named.rows == 50
    assert tell
    there = pickle.loads(pickle.dumps(tell(list(find_objects(job, kind)))[0]))
    assert tell.rows(there).equals(tell.rows(tell(list(list_source(job, kind)))[0])), (
        "in another process, too"
    )


def test_a_file_that_may_belong_to_another_is_looked_at(tmp_path: Path, listing: Any) -> None:
    for name in ("x.a", "x.b", "y.b"):
        (tmp_path / name).write_bytes(b"x")
    entries = listing(tmp_path, "pairs")
    assert [(entry.name, [*entry.companions]) for entry in entries] == [("x.a", ["x.b"]), ("y.b", [])]
