"""What a sample is called, and so what its key, its split and the dataset's digest depend on."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from modalities.base import BadSample
from pipelines.sources import Entry, open_entry

Lister = Callable[..., list[Entry]]
Tree = Callable[..., Path]


def table(path: Path, *uris: str, **columns: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["uri", *columns], *([uri, *columns.values()] for uri in uris)])
    return path


def test_no_name_says_where_this_machine_keeps_a_file(listing: Lister, tree: Tree, tmp_path: Path) -> None:
    root = tree("x/a.jpg", "x/b.jpg")
    outside = [
        tmp_path / "elsewhere" / "a.jpg",
        tmp_path / "elsewhere" / "more" / "a.jpg",
        tmp_path / "b c.jpg",
    ]
    for path in outside:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(str(path).encode())
    uris = [
        str(root / "x" / "a.jpg"),
        "x/b.jpg",
        *map(str, outside[:2]),
        outside[2].as_uri(),
        str(outside[1]),
        "s3://bucket/a.jpg",
    ]
    entries = listing(table(root / "t.csv", *uris))
    assert [entry.name for entry in entries] == [
        "x/a.jpg",
        "x/b.jpg",
        "a.jpg",
        "a~2.jpg",
        "b c.jpg",
        "a~3.jpg",
        "bucket/a.jpg",
    ]
    assert [entry.group for entry in entries] == ["x/a", "x/b", "a", "a~2", "b c", "a~2", "bucket/a"]
    assert open_entry(entries[4])[0].content == str(outside[2]).encode()


def test_a_file_url_is_decoded_as_browsers_do(listing: Lister, tree: Tree) -> None:
    root = tree("a b%20ü.jpg", "c#d?.jpg")
    [first, second] = listing(root.as_uri())
    assert (first.name, second.name) == ("a b%20ü.jpg", "c#d?.jpg")
    [entry] = listing((root / "a b%20ü.jpg").as_uri())
    assert open_entry(entry)[0].content == "a b%20ü.jpg".encode()
    for plain in ("c#d?.jpg", "c?.jpg"):
        with pytest.raises(ValueError, match="%3F or %23"):
            listing(f"file://{root}/{plain}")


def test_a_named_source_never_meets_another(listing: Lister, tree: Tree) -> None:
    root = tree("x/a.jpg", "y/b.jpg")
    for source in (root, table(root / "t.csv", "x/a.jpg", "y/b.jpg")):
        plain = [entry for entry in listing(source) if entry.name.endswith("jpg")]
        named = [entry for entry in listing(source, name="site-b") if entry.name.endswith("jpg")]
        assert [entry.name for entry in named] == [f"site-b/{entry.name}" for entry in plain]
        assert [entry.group for entry in named] == [f"site-b/{entry.group}" for entry in plain]
        assert [entry.label for entry in named] == [entry.label for entry in plain]
        assert [open_entry(e)[0].content for e in named] == [open_entry(e)[0].content for e in plain]


@pytest.mark.parametrize("files", [(), ("README.md", ".hidden.jpg")])
def test_a_source_of_nothing_is_a_mistake(listing: Lister, tree: Tree, files: tuple[str, ...]) -> None:
    root = tree(*files)
    with pytest.raises(FileNotFoundError, match=r"nothing to ingest.*allow_empty"):
        listing(root)
    with pytest.raises(FileNotFoundError, match=r"nothing matches \*\.jpg"):
        listing(root, glob="*.jpg")
    assert listing(root, allow_empty=True) == []


@pytest.mark.parametrize("content", [b"", b" \n"])
def test_a_class_file_without_a_class_is_refused(listing: Lister, tree: Tree, content: bytes) -> None:
    root = tree("a.jpg", "b.jpg")
    (root / "a.cls").write_bytes(content)
    first, second = listing(root)
    with pytest.raises(BadSample, match=r"bad-sidecar: .*empty"):
        open_entry(first)
    assert open_entry(second)[1] == {}
    assert open_entry(listing(root, labels="none")[0])[1] == {}


def test_a_table_reads_with_the_credentials_of_its_source(
    listing: Lister, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.sources import table as tables

    asked: list[bool] = []
    real = tables.open_store

    def spy(uri: str, *, anonymous: bool = False) -> object:
        asked.append(anonymous)
        return real(uri, anonymous=anonymous)

    monkeypatch.setattr(tables, "open_store", spy)
    source = table(tree("a.jpg") / "t.csv", "a.jpg")
    listing(source)
    listing(source, anonymous=True)
    assert asked == [False, True]
