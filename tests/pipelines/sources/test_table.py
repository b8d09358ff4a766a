"""Tables of URIs."""

import csv
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modalities.base import BadSample
from pipelines.sources import Entry, list_source, open_entry, sorting
from tests.pipelines.sources.conftest import MODALITIES, Lister, Stream

Tree = Callable[..., Path]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".tsv"])
def test_rows_become_entries_in_their_order(listing: Lister, tree: Tree, suffix: str) -> None:
    root = tree("x/b.jpg", "x/a.jpg", "c.jpg")
    rows = [
        {"uri": "x/b.jpg", "label": "dog", "caption": 'a dog, "big"\nand old', "scene": "s1"},
        {"uri": str(root / "c.jpg"), "label": "", "caption": "é", "scene": ""},
        {"uri": f"file://{root}/x/a.jpg", "label": "cat", "caption": "", "scene": "s1"},
        {"uri": "x/b.jpg", "label": "dog", "caption": "second caption", "scene": "s1"},
    ]
    entries = listing(write(root / f"t{suffix}", rows), group_column="scene")
    assert [open_entry(entry)[0].content for entry in entries] == [
        b"x/b.jpg",
        b"c.jpg",
        b"x/a.jpg",
        b"x/b.jpg",
    ]
    assert [entry.label for entry in entries] == ["dog", None, "cat", "dog"]
    assert [entry.caption for entry in entries] == [r["caption"] or None for r in rows]
    assert [entry.group for entry in entries][::2] == ["s1", "s1"]
    assert entries[0].name == "x/b.jpg"
    assert entries[3].name == "x/b~2.jpg"
    assert [entry.label for entry in listing(root / f"t{suffix}", labels="none")] == [None] * 4
    assert all(Entry.from_json(entry.to_json()) == entry for entry in entries)


def test_numbers_are_labels_too(listing: Lister, tree: Tree) -> None:
    root = tree("a.jpg", "b.jpg")
    rows = [{"path": "a.jpg", "class": 7}, {"path": "b.jpg", "class": None}]
    table = write(root / "t.parquet", rows)
    entries = listing(table, uri_column="path", label_column="class")
    assert [entry.label for entry in entries] == ["7", None]


def test_rows_that_name_nothing_readable_are_refused(listing: Lister, tree: Tree) -> None:
    root = tree("a.jpg")
    uris = ["a.jpg", "gone.jpg", "", "pipe:touch owned", "s3::https://x/y.jpg", "github:a/b", "/etc", "\0"]
    entries = listing(write(root / "t.parquet", [{"uri": uri} for uri in uris]))
    assert open_entry(entries[0])[0].content == b"a.jpg"
    reasons = []
    for entry in entries[1:]:
        with pytest.raises(BadSample) as caught:
            open_entry(entry)
        reasons.append(caught.value.reason)
    assert reasons == ["unreadable", "unreadable", *["unsafe"] * 3, "unreadable", "unsafe"]
    assert not Path("owned").exists()


def test_a_column_that_is_not_there_names_those_that_are(listing: Lister, tree: Tree) -> None:
    table = write(tree("a.jpg") / "t.csv", [{"url": "a.jpg"}])
    with pytest.raises(ValueError, match=r"no column 'uri' .*uri_column to one of \['url'\]"):
        listing(table)
    with pytest.raises(ValueError, match="no column 'label' for labels"):
        listing(table, uri_column="url", labels="column")


def test_csv_is_a_cloud_unless_its_header_names_uris(listing: Lister, tree: Tree) -> None:
    root = tree("a.bin")
    (root / "cloud.csv").write_text("x,y,z\n1,2,3\n")
    assert [entry.name for entry in listing(root / "cloud.csv", "pointcloud")] == ["cloud.csv"]
    table = write(root / "t.csv", [{"uri": "a.bin", "x": 1}])
    assert [entry.name for entry in listing(table, "pointcloud")] == ["a.bin"]


def test_rows_bring_their_companions(listing: Lister, tree: Tree) -> None:
    root = tree("d/s.hdr", "d/s.img", "z.zarr/0")
    entries = listing(write(root / "t.csv", [{"uri": "d/s.hdr"}, {"uri": "z.zarr"}]), "hyperspectral")
    assert [(entry.name, set(entry.companions)) for entry in entries] == [
        ("d/s.hdr", {"s.img"}),
        ("z.zarr/", {"0"}),
    ]
    assert open_entry(entries[0])[0].companion("s.img").read() == b"d/s.img"


def test_rows_of_one_name_keep_their_companions(listing: Lister, tree: Tree) -> None:
    root = tree("a/x.hdr", "a/x.img", "b/x.hdr", "b/x.img")
    rows = [{"uri": str(root / folder / "x.hdr")} for folder in "ab"]
    (root / "tables").mkdir()
    first, second = listing(write(root / "tables" / "t.csv", rows), "hyperspectral")
    assert (first.name, [*first.companions]) == ("x.hdr", ["x.img"])
    assert (second.name, [*second.companions]) == ("x~2.hdr", ["x~2.img"])


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.sampled_from(["a", "a~2", "a~3", "a~2~2", "b", "b~2", "c"]), min_size=1), st.integers(1, 9)
)
def test_names_are_unique_and_a_row_more_renames_none_before_it(stems: list[str], held: int) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sorting, "HELD", held)
        rows = [{"uri": f"https://example.org/{stem}.jpg"} for stem in stems]
        path = write(Path(folder) / "t.csv", rows)
        source = SimpleNamespace(uri=str(path), synth=None, labels="none", glob=None, uri_column="uri")
        source.label_column, source.caption_column = "label", "caption"
        names = [entry.name for entry in list_source(source, MODALITIES["image"])]
    taken: set[str] = set()
    for stem, name in zip(stems, names, strict=True):
        wanted = next(n for i in range(1, 99) if (n := f"{stem}~{i}" if i > 1 else stem) not in taken)
        taken.add(wanted)
        assert name == f"example.org/{wanted}.jpg"


def test_memory_does_not_grow_with_the_rows(
    stream: Stream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sorting, "HELD", 512)
    peaks = []
    for count in (1000, 8000):
        path = write(
            tmp_path / f"{count}.csv", [{"uri": f"https://example.org/{i}.jpg"} for i in range(count)]
        )
        tracemalloc.start()
        assert sum(1 for _ in stream(path)) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2 * peaks[0], f"{peaks} bytes for eight times the rows"


def test_rows_of_one_name_take_no_longer_each(stream: Stream, tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", [{"uri": "https://example.org/a.jpg"}] * 20_000)
    names = [entry.name for entry in stream(path)]
    assert names[:2] == ["example.org/a.jpg", "example.org/a~2.jpg"]
    assert names[-1] == "example.org/a~20000.jpg"


def test_a_second_row_of_a_whole_name_gets_a_folder_and_keeps_its_companions(
    listing: Lister, tree: Tree
) -> None:
    folders = ("a", "b", "t/c", "t/lights~2", "t/c")
    root = tree(*(f"{folder}/{file}" for folder in folders for file in ("lights.npy", "frame_0.npy")))
    uris = [str(root / f"{folder}/lights.npy") for folder in folders[:2]]
    uris += [f"{folder[2:]}/lights.npy" for folder in folders[2:]]
    entries = listing(write(root / "t" / "t.csv", [{"uri": uri} for uri in uris]), "lighting")
    assert [entry.name for entry in entries] == [
        *("lights.npy", "lights~2/lights.npy"),
        *("c/lights.npy", "lights~2~2/lights.npy", "c~2/lights.npy"),
    ]
    assert len({entry.group for entry in entries[:4]}) == 4
    for entry, folder in zip(entries, folders, strict=True):
        raw, _ = open_entry(entry)
        assert raw.content == f"{folder}/lights.npy".encode()
        assert raw.companion("frame_0.npy").read() == f"{folder}/frame_0.npy".encode()


def test_a_second_row_of_a_folder_is_a_folder_too(listing: Lister, tree: Tree) -> None:
    root = tree("a/z.zarr/0", "b/z.zarr/0", "t/z.zarr/0")
    uris = [str(root / "a/z.zarr"), str(root / "b/z.zarr"), "z.zarr"]
    entries = listing(write(root / "t" / "t.csv", [{"uri": uri} for uri in uris]), "hyperspectral")
    assert [entry.name for entry in entries] == ["z.zarr/", "z~2.zarr/", "z~3.zarr/"]
    assert [open_entry(e)[0].companion("0").read()[:1] for e in entries] == [b"a", b"b", b"t"]


@pytest.mark.parametrize("text", ["uri\na.jpg,b.jpg\n", 'uri\n"a.jpg\n', "uri\n\xff.jpg\n"])
def test_broken_csv_is_an_error_with_its_line(listing: Lister, tmp_path: Path, text: str) -> None:
    (tmp_path / "t.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"t\.csv (near )?line"):
        listing(tmp_path / "t.csv")


def test_broken_parquet_is_an_error(listing: Lister, tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(ValueError, match="is no Parquet file"):
        listing(tmp_path / "t.parquet")


@pytest.mark.parametrize("touched", [False, True])
def test_a_table_that_is_written_to_while_it_is_listed_is_no_table(
    touched: bool, stream: Stream, tmp_path: Path
) -> None:
    rows = [{"uri": f"https://example.org/{i}.jpg"} for i in range(9)]
    path = write(tmp_path / "t.csv", rows)
    entries = stream(path)
    next(entries)
    if touched:
        (tmp_path / "new.csv").write_text("uri\nhttps://example.org/8.jpg\n")
        (tmp_path / "new.csv").replace(path)
        with pytest.raises(OSError, match=r"t\.csv was written to while it was listed; run the same command"):
            list(entries)
    else:
        path.chmod(0o600)  # nothing of it changes
        assert len(list(entries)) == 8


def test_where_folders_decide_of_splits_every_file_has_one(
    listing: Lister, tree: Tree, tmp_path: Path
) -> None:
    root = tree("x/a.jpg", "x/b.jpg", "y/a.jpg", "lists/c.jpg", "lists/z/d.jpg")
    files = [*sorted(root.glob("[xy]/*.jpg")), root / "lists/c.jpg", root / "lists/z/d.jpg"]
    table = write(root / "lists/t.csv", [{"uri": str(path)} for path in files])
    xa, xb, ya, c, d = (entry.group for entry in listing(table, by_folder=True))
    folders = [group.rpartition("/")[0] for group in (xa, xb, ya, c, d)]
    assert (folders[0], folders[3:]) == (folders[1], ["", "z"])
    assert len(set(folders)) == 4
    assert (xa.rpartition("/")[2], xb.rpartition("/")[2]) == ("a", "b")
    assert root.name not in "".join(folders)
    again = write(root / "y/t.csv", [{"uri": f"file://{files[0]}"}])
    assert [entry.group for entry in listing(again, by_folder=True)] == [xa]
    assert [entry.group for entry in listing(table)] == ["a", "b", "a~2", "c", "z/d"]


def test_a_group_without_a_folder_is_refused_where_folders_decide_of_splits(
    listing: Lister, tree: Tree
) -> None:
    root = tree("a.jpg")
    table = write(root / "t.csv", [{"uri": "a.jpg", "line": "flight/line1"}])
    assert [entry.group for entry in listing(table, group_column="line", by_folder=True)] == ["flight/line1"]
    table = write(root / "t.csv", [{"uri": "a.jpg", "line": "line1"}])
    with pytest.raises(ValueError, match=r"'line1' has no folder, .* say split\.by: scene"):
        listing(table, group_column="line", by_folder=True)
    assert [entry.group for entry in listing(table, group_column="line")] == ["line1"]
