"""Rows of a table that share a name: sorted on disk they are called what a dict of all names says."""

import csv
import random
import tracemalloc
from collections import defaultdict, deque
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import modalities
from modalities.base import Modality
from pipelines.sources import Entry, rows, sorting
from tests.pipelines.sources.conftest import MODALITIES, Lister, Stream

BESIDE = [  # the table
    *("a.jpg", "./a.jpg", "a~2.jpg", "a~3.jpg", "a~2~2.jpg", "x/a.jpg", "x/a~2.jpg", "a", "A.jpg", " a.jpg "),
    *("lights.npy", "lights~2/lights.npy", "lights/lights.npy", "f/lights.npy", "f~2/lights.npy", "gone.jpg"),
    *("s.zarr", "s.zarr/", "s~2.zarr", "x.hdr", "", "row-000000001", "row-000000002", "row-000000002~2"),
    *("https://h/a.jpg?x=1", "https://h/a.jpg", "https://h?x=1", "https://h?x=2", "https://h", "h~2", ".."),
]
ELSEWHERE = [
    *("a.jpg", "p/a.jpg", "q/a~2.jpg", "lights.npy", "p/lights.npy", "p/frame_0.npy", "q/lights.npy"),
    *("s.zarr/0", "p/s.zarr/0", "x.hdr", "x.img", "p/x.hdr"),
]


def table(path: Path, uris: list[str]) -> Path:
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["uri", "n"], *([uri, "x"] for uri in uris)])
    return path


def fill(root: Path) -> list[str]:
    """Files in t, where the table is, and in e; URIs for rows."""
    beside = [name for name in BESIDE if name.strip(" ./") and "https" not in name and name[:4] != "gone"]
    beside = [f"{name}/0" if "zarr" in name else name for name in beside if name[-1] not in "/a "]
    for name in (*(f"t/{name}" for name in beside), *(f"e/{name}" for name in ELSEWHERE)):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    (root / "e/k").mkdir()
    (root / "e/k/a.jpg").symlink_to(root / "e/a.jpg")
    (root / "l").symlink_to(root / "e")
    (root / "m").symlink_to(root / "l/p")
    away = [root / "e" / name.removesuffix("/0") for name in (*ELSEWHERE, "k/a.jpg", "gone/a.jpg")]
    linked = [root / "l/p/a.jpg", root / "m/a.jpg", root / "l/a.jpg"]
    return [*BESIDE, *map(str, away + linked), away[1].as_uri()]


def in_memory(alone: list[Entry], kind: Modality) -> list[tuple[str, str]]:
    """Names and groups of rows, of what each is when it is the only one."""
    taken: set[str] = set()
    objects: dict[str, dict[str, int]] = defaultdict(dict)
    named = []
    for entry in alone:
        tail = "/" * entry.name.endswith("/")
        path = entry.name.rstrip("/")
        name = next(n for i in count(1) if (n := again(path, i, kind)) not in taken)
        taken.add(name)
        group = entry.group
        if entry.refusal is None and "/" not in entry.name + group:
            mine = objects[entry.name]
            number = mine.setdefault(entry.content.uri, len(mine) + 1)
            group += f"~{number}" if number > 1 else ""
        unnamed = path.startswith("row-") and not entry.content.uri
        named.append((name + tail, name if unnamed else group))
    return named


def again(name: str, i: int, kind: Modality) -> str:
    if i == 1:
        return name
    folder, slash, base = name.rpartition("/")
    stem, dot, extension = base.partition(".")
    if base in kind.patterns:
        return f"{folder or stem}~{i}/{base}"
    return f"{folder}{slash}{stem}~{i}{dot}{extension}"


@pytest.mark.parametrize("collide", [False, True])
@pytest.mark.parametrize("held", [1, 3, 16])
@pytest.mark.parametrize("modality", ["image", "hyperspectral", "lighting"])
def test_rows_are_called_as_a_dict_of_names_would_call_them(
    modality: str, held: int, collide: bool, tmp_path: Path, listing: Lister, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(f"{modality} {held} {collide}")
    kind = MODALITIES[modality]
    pool = fill(tmp_path)
    monkeypatch.setattr(sorting, "HELD", held)
    if collide:
        monkeypatch.setattr(rows, "hash", lambda name: len(name) % 3 - 1, raising=False)
    seen: dict[tuple[str, bool], Entry] = {}
    for _ in range(60):
        uris = rng.choices(rng.sample(pool, rng.randint(1, 8)), k=rng.randint(1, 14))
        told: dict[str, Any] = {"labels": "none", "by_folder": rng.random() < 0.2}
        entries = listing(table(tmp_path / "t/t.csv", uris), modality, **told)
        alone = []
        for number, uri in enumerate(uris, start=1):
            if (key := (uri, told["by_folder"])) not in seen:
                [seen[key]] = listing(table(tmp_path / "t/one.csv", [uri]), modality, **told)
            entry = seen[key]
            name = entry.name if uri else f"row-{number:09d}"
            alone.append(entry if uri else entry._replace(name=name, group=name))
        for entry, one, wanted in zip(entries, alone, in_memory(alone, kind), strict=True):
            assert (entry.name, entry.group) == wanted, uris
            assert entry.content == one.content
        assert len({entry.name.rstrip("/") for entry in entries}) == len(uris)


def test_a_row_without_uri_shares_its_name_with_no_file(listing: Lister, tree: Any) -> None:
    root = tree("row-000000001", "row-000000003")
    entries = listing(table(root / "t.csv", ["", "row-000000001", "", "row-000000003"]))
    names = ["row-000000001", "row-000000001~2", "row-000000003", "row-000000003~2"]
    assert [entry.name for entry in entries] == names


def test_the_seed_of_hashes_is_in_no_name(
    listing: Lister, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = table(tmp_path / "t.csv", [f"https://h?{i % 40}" for i in range(90)] + ["https://h/a.jpg"] * 9)
    found = listing(path)
    for seed in range(3):
        monkeypatch.setattr(rows, "hash", lambda name, seed=seed: hash((seed, name)), raising=False)
        assert listing(path) == found


@pytest.mark.parametrize(
    ("uri", "times"),
    [
        ("/nowhere/{}/image.jpg", 1),
        ("https://host?{}", 1),
        ("https://host/{}.jpg", 2),
        ("https://host/a~{}.jpg", 1),
    ],
)
def test_memory_is_that_of_a_part_where_names_come_again(
    uri: str, times: int, stream: Stream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sorting, "HELD", 512)
    image, peaks = modalities.get("image"), []
    for count_ in (1500, 9000):
        uris = [uri.format(i % (count_ // times)) for i in range(2, count_)]
        path = table(tmp_path / f"{count_}.csv", ["https://host/b.jpg", *uris, "https://host/b.jpg"])
        tracemalloc.start()
        names = deque((entry.name for entry in stream(path, image)), maxlen=1)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert [*names] == ["host/b~2.jpg"]
    assert peaks[1] < 2 * peaks[0], f"{peaks} bytes for six times the rows"
