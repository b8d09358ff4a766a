"""What belongs to an object that is named alone is what lies beside it, however much else does."""

import errno
import random
import shutil
import sqlite3
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import modalities
from modalities.base import Modality
from pipelines.sources import Entry, beside, sorting
from pipelines.sources.beside import Beside
from pipelines.sources.folder import Folder, called, part_of
from pipelines.sources.groups import visible
from pipelines.sources.matching import find_pattern, stem_of
from pipelines.sources.stores import LocalStore, Node, make_unique
from tests.pipelines.sources.conftest import MODALITIES, Stream
from tests.pipelines.sources.test_sorting import REACHING, grown
from tests.pipelines.sources.test_table import write

KINDS = MODALITIES | REACHING | {f"real {name}": modalities.get(name) for name in modalities.names()}


def among_all(store: LocalStore, node: Node, modality: Modality) -> Entry:
    """An object of a folder that is looked at as a whole."""
    folder, stem = node.uri.rpartition("/")[0], stem_of(node.name, find_pattern(node.name, modality))
    nodes = make_unique(list(visible(store.scan(folder))))
    mine = next(one.name for one in nodes if one.uri == node.uri) + "/" * node.is_folder
    root = Folder(store=store, root=folder, modality=modality, only=mine, expand=lambda *_: iter(()))
    alone = Entry(name=node.name, content=part_of(node), group=stem)
    found = next((entry for entry in root.objects_of(nodes) if entry.name == mine), alone)
    name = node.name + "/" * node.is_folder
    return found if mine == name else called(found, name)._replace(group=stem)


@pytest.mark.parametrize("held", [1, 7, 2**14])
@pytest.mark.parametrize("kind", KINDS)
def test_an_object_finds_beside_it_what_it_finds_in_the_whole_folder(
    kind: str, held: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sorting, "HELD", held)
    rng = random.Random(f"{kind} {held}")
    for i in range(4):
        root = tmp_path / f"{i}"
        grown(root, rng, odd=True)
        store, near = LocalStore(str(root)), Beside(KINDS[kind])
        for path in (path for path in root.iterdir() if not path.name.startswith(".")):
            node = store.stat(str(path) if "\udcff" not in path.name else path.as_uri())
            assert node is not None
            assert near.entry(store, node) == among_all(store, node, KINDS[kind]), node


def test_a_table_lists_each_folder_once(
    stream: Stream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = []
    for i in range(40):
        for name in (f"{i % 3}/{i}.hdr", f"{i % 3}/{i}.img"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(b"x")
        rows.append({"uri": f"{i % 3}/{i}.hdr"})
    asked, scan = Counter[str](), LocalStore.scan

    def counted(store: LocalStore, folder: str) -> Iterator[Node]:
        asked[Path(folder).name] += 1
        return scan(store, folder)

    monkeypatch.setattr(LocalStore, "scan", counted)
    found = list(stream(write(tmp_path / "t.csv", rows), modalities.get("hyperspectral")))
    assert [[*entry.companions] for entry in found] == [[f"{i}.img"] for i in range(40)]
    assert asked == {"0": 1, "1": 1, "2": 1}


def test_memory_does_not_grow_with_what_lies_beside(
    stream: Stream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sorting, "HELD", 256)
    monkeypatch.setattr(sorting, "_BLOCK", 4)
    peaks = []
    for count in (700, 4200):
        for i in range(count):
            (path := tmp_path / f"{count}/{i:06}.tif").parent.mkdir(exist_ok=True)
            path.touch()
        table = write(tmp_path / f"{count}.csv", [{"uri": f"{count}/{i:06}.tif"} for i in range(count)])
        tracemalloc.start()
        assert sum(1 for _ in stream(table, modalities.get("hyperspectral"))) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2 * peaks[0], f"{peaks} bytes for six times the files"


def test_a_full_disk_ends_the_listing_and_refuses_no_row(
    stream: Stream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(2000):
        (tmp_path / f"{i:060}.tif").touch()
    table = write(tmp_path / "t.csv", [{"uri": f"{0:060}.tif"}])
    connect = sqlite3.connect

    def small(*args: object, **options: object) -> sqlite3.Connection:
        known: sqlite3.Connection = connect(*args, **options)  # type: ignore[call-overload]
        known.execute("PRAGMA max_page_count = 20")  # SQLite's error is that of a full disk
        return known

    monkeypatch.setattr(beside.sqlite3, "connect", small)
    with pytest.raises(OSError, match=r"No space left") as caught:
        list(stream(table, modalities.get("hyperspectral")))
    assert caught.value.errno == errno.ENOSPC
    assert shutil.disk_usage(tmp_path).free > 0
