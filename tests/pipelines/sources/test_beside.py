"""What belongs to an object that is named alone is what lies beside it, however much else does."""

import errno
import random
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import modalities
from modalities.base import Modality
from pipelines.disk import FULL
from pipelines.sources import Entry, sorting
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


def test_memory_does_not_grow_with_what_lies_beside(tmp_path: Path) -> None:
    peaks = []
    for count in (100, 30_000):
        (root := tmp_path / f"{count}").mkdir()
        for i in range(count):
            (root / f"{i:0120}.tif").touch()
        code = (
            "import sys, modalities\n"
            "from pipelines.sources import sorting\n"
            "from pipelines.sources.beside import Beside\n"
            "from pipelines.sources.stores import LocalStore\n"
            "sorting.HELD, sorting._BLOCK = 256, 4\n"
            "store, beside = LocalStore(), Beside(modalities.get('hyperspectral'))\n"
            "beside.entry(store, store.stat(f'{sys.argv[1]}/{99:0120}.tif'))\n"
            "print(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0])\n"
        )
        asked = [sys.executable, "-c", code, str(root)]
        peaks.append(int(subprocess.run(asked, capture_output=True, text=True, check=True).stdout))
    assert peaks[1] - peaks[0] < 9_000, f"{peaks} kB; what is on disk is more"


def full_disk(monkeypatch: pytest.MonkeyPatch, at: str, *, code: int = sqlite3.SQLITE_FULL) -> None:
    """SQLite finds its disk full when it is asked for something."""
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = code

    class Full(sqlite3.Connection):
        def execute(self, sql: str, *of: Any) -> sqlite3.Cursor:
            if sql.startswith(at):
                raise error
            return super().execute(sql, *of)

        def __exit__(self, *of: Any) -> Any:
            super().__exit__(*of)
            if at == "COMMIT" and of[0] is None:
                raise error

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", partial(connect, factory=Full))


@pytest.mark.parametrize("at", ["SELECT", "DELETE", "COMMIT"])
@pytest.mark.parametrize("code", [sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR | 3 << 8])
def test_a_full_disk_ends_the_listing_and_refuses_no_row(
    at: str, code: int, stream: Stream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.tif").touch()
    table = write(tmp_path / "t.csv", [{"uri": "a.tif"}])
    full_disk(monkeypatch, at, code=code)
    with pytest.raises(OSError, match="database or disk is full") as caught:
        list(stream(table, modalities.get("hyperspectral")))
    assert caught.value.errno in FULL


def test_a_real_full_disk_is_told_as_one(stream: Stream, tmp_path: Path) -> None:
    """What SQLite really says, at a limit of its own."""
    for i in range(2000):
        (tmp_path / f"{i:060}.tif").touch()
    near = Beside(modalities.get("hyperspectral"))
    near._known.execute("PRAGMA max_page_count = 20")
    store = LocalStore(str(tmp_path))
    node = store.stat(str(tmp_path / f"{0:060}.tif"))
    assert node is not None
    with pytest.raises(OSError, match="No space left") as caught:
        near.entry(store, node)
    assert caught.value.errno == errno.ENOSPC
    assert near._found(str(tmp_path), node.name) is None  # nothing of a folder that is not all there


def test_what_comes_while_a_table_is_read_is_found(stream: Stream, tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"x")
    table = write(tmp_path / "t.csv", [{"uri": "a.tif"}, {"uri": "b.tif"}, {"uri": "a.tif"}])
    rows = stream(table, modalities.get("hyperspectral"))
    assert not next(rows).companions
    (tmp_path / "b.tif").write_bytes(b"x")
    (tmp_path / "b.seg.png").write_bytes(b"x")
    assert [*next(rows).companions] == ["b.seg.png"]
    (tmp_path / "a.tif").write_bytes(b"longer")
    assert next(rows).content.size == 6


def test_a_folder_that_does_not_list_what_is_there_is_not_listed_for_each_row(
    stream: Stream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(9):
        (tmp_path / f"{i}.tif").touch()
    asked, scan = [], LocalStore.scan

    def poor(store: LocalStore, folder: str) -> Iterator[Node]:
        asked.append(folder)
        return (node for node in scan(store, folder) if node.name == "0.tif")

    monkeypatch.setattr(LocalStore, "scan", poor)
    table = write(tmp_path / "t.csv", [{"uri": f"{i}.tif"} for i in range(9)])
    assert len(list(stream(table, modalities.get("hyperspectral")))) == 9
    assert len(asked) <= 2


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("real pointcloud", ["~2.las", "~2.txt", "~2.json", "points.npy", "x.npy", "a.las"]),
        ("real hyperspectral", ["~2", "~2.tif", "~2.seg.png", "e\N{COMBINING ACUTE ACCENT}.tif"]),
        (
            "real hyperspectral",
            ["a~9dd851dd5e.tif", "A~9DD851DD5E.SEG.PNG", "e\N{COMBINING ACUTE ACCENT}.tif"],
        ),
    ],
)
def test_names_that_are_marks_find_what_is_theirs(kind: str, names: list[str], tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).touch()
    store, near = LocalStore(str(tmp_path)), Beside(KINDS[kind])
    for name in names:
        node = store.stat(str(tmp_path / name))
        assert node is not None
        assert near.entry(store, node) == among_all(store, node, KINDS[kind])
