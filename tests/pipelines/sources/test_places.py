"""Which places are read at all, and object stores: memory and S3 (a server on loopback)."""

import io
import os
import sys
import tarfile
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest
from fsspec.registry import _registry

from modalities.base import BadSample
from pipelines.sources import Entry, open_entry
from pipelines.sources.places import open_store, resolve
from pipelines.sources.stores import make_unique, told_name

Lister = Callable[..., list[Entry]]
Tree = Callable[..., Path]
FILES = {
    "cat/a.jpg": b"A",
    "cat/a.cls": b"3",
    "dog/b c#1?.jpg": b"B",
    "dog/é/c.jpg": b"",
    "x.zarr/c/0": b"Z",
    "sub/t.tar": b"",
}


@pytest.mark.parametrize(
    "uri",
    [
        *("pipe:touch owned", "pipe:cat x.jpg", "PIPE:ls", "ssh://host/x", "sftp://h/x", "github://o:r@/x"),
        *("simplecache::s3://b/x", "zip://x.jpg::s3://b/a.zip", "filecache::http://h/x", "reference://x"),
        *(
            "hdfs://h/x",
            "ftp://h/x",
            "git://x",
            "local://x",
            "data:,x",
            "dask://x",
            "webhdfs://h/x",
            "hf://x",
        ),
        *("smb://h/x", "jupyter://h/x", "libarchive://x", "tar://x", "dir://x", "gdrive://x", "root://x"),
        *("file://host/x.jpg", "https://user:secret@example.com/x.jpg", "a\0b"),
    ],
)
def test_other_places_are_refused_by_name(listing: Lister, uri: str) -> None:
    with pytest.raises(ValueError, match=r"is not read|not read|three slashes|password|NUL") as caught:
        listing(uri)
    assert "secret" not in str(caught.value)
    assert not Path("owned").exists()


def test_local_paths_become_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve("a/../b") == f"{tmp_path}/b" == resolve(f"file://{tmp_path}/b") == resolve("./b/")


@pytest.fixture
def memory() -> Iterator[str]:
    fs = fsspec.filesystem("memory")
    yield "memory://rayloom-sources"
    fs.rm("/rayloom-sources", recursive=True)


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    said = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "k",
        "AWS_SECRET_ACCESS_KEY": "s",
    }
    said |= {"AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}
    before = dict(os.environ)
    os.environ.update(said)
    fs = fsspec.filesystem("s3", use_listings_cache=False)
    fs.mkdir("bucket")
    yield "s3://bucket/source"
    type(fs).clear_instance_cache()
    server.stop()
    os.environ.clear()
    os.environ.update(before)


def fill(root: str, files: dict[str, bytes]) -> None:
    fs = fsspec.filesystem(root.partition("://")[0])
    for name, data in files.items():
        fs.pipe_file(f"{root}/{name}", data)


@pytest.mark.parametrize("place", ["memory", "s3"])
def test_object_stores_list_what_a_disk_lists(
    listing: Lister, request: pytest.FixtureRequest, tmp_path: Path, place: str
) -> None:
    root = request.getfixturevalue(place)
    import tarfile

    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        for i in range(3):
            (tmp_path / "m").write_bytes(bytes([i]) * 1000)
            tar.add(tmp_path / "m", f"{i}.jpg")
    files = FILES | {"sub/t.tar": (tmp_path / "t.tar").read_bytes()}
    files |= {f"sub/{form}.jpg": form.encode() for form in ("\u1e69", "s\u0323\u0307", "s\u0307\u0323")}
    fill(root, files)
    disk = tmp_path / "disk"
    for name, data in files.items():
        (disk / name).parent.mkdir(parents=True, exist_ok=True)
        (disk / name).write_bytes(data)
    for modality in ("image", "hyperspectral"):
        there, here = listing(root, modality), listing(disk, modality)
        assert [(e.name, e.label, e.group) for e in there] == [(e.name, e.label, e.group) for e in here]
        for remote, local in zip(there, here, strict=True):
            assert remote.content.uri.startswith(root[:5])
            assert remote.content.version or remote.content.size == 0
            assert open_entry(Entry.from_json(remote.to_json())) == open_entry(local)
    assert [e.name for e in listing(f"{root}/**/*.jpg")] == [e.name for e in listing(disk, glob="**/*.jpg")]
    assert [e.name for e in listing(f"{root}/cat/a.jpg")] == ["a.jpg"]
    with pytest.raises(FileNotFoundError):
        listing(f"{root}/nothing")


@pytest.mark.parametrize("place", ["memory", "s3"])
def test_names_in_two_forms_are_told_apart_in_stores_too(
    place: str, listing: Lister, request: pytest.FixtureRequest
) -> None:
    root, nfd = f"{request.getfixturevalue(place)}/forms", unicodedata.normalize("NFD", "café")
    alike = (f"{nfd}.jpg", told_name(f"{nfd}.jpg"))
    fill(root, {name: name.encode() for name in (*alike, f"{nfd}/0.jpg")})
    told = {open_entry(entry)[0].read().decode(): entry.name for entry in listing(root)}
    assert told == {**{name: told_name(name) for name in alike}, f"{nfd}/0.jpg": "café/0.jpg"}
    fill(root, {"café/0.jpg": b""})
    folders = [node for node in make_unique(list(open_store(root).scan(root))) if node.is_folder]
    assert [node.refusal and node.refusal[0] for node in folders] == ["bad-name"] * 2


@pytest.mark.parametrize("place", ["memory", "s3"])
def test_a_table_in_a_store_names_its_neighbours_and_no_local_file(
    listing: Lister, request: pytest.FixtureRequest, place: str
) -> None:
    root = request.getfixturevalue(place)
    rows = ["cat/a.jpg", f"{root}/cat/a.jpg", "/etc/passwd", "file:///etc/passwd", "../x.jpg", "gone.jpg"]
    fill(root, {"cat/a.jpg": b"A", "t.csv": "\n".join(["uri", *rows]).encode()})
    entries = listing(f"{root}/t.csv")
    assert [open_entry(entry)[0].content for entry in entries[:2]] == [b"A", b"A"]
    for entry, reason in zip(entries[2:], ["unsafe", "unsafe", "unsafe", "unreadable"], strict=True):
        with pytest.raises(BadSample, match=reason):
            open_entry(entry)


def test_what_vanishes_or_changes_in_a_store_is_refused(listing: Lister, s3: str) -> None:
    fill(s3, {"v/a.jpg": b"A", "v/b.jpg": b"B", "v/empty.jpg": b""})
    gone, grown, empty = listing(f"{s3}/v")
    fsspec.filesystem("s3").rm_file(f"{s3}/v/a.jpg")
    fill(s3, {"v/b.jpg": b"BBB"})
    assert open_entry(empty)[0].content == b""
    for entry in (gone, grown):
        with pytest.raises(BadSample, match="unreadable"):
            open_entry(entry)
    with pytest.raises(BadSample, match="too-large"):
        open_entry(grown, max_bytes=0)


@pytest.mark.parametrize("place", ["memory", "s3"])
def test_what_was_written_to_since_the_listing_is_told_where_that_matters(
    listing: Lister, request: pytest.FixtureRequest, place: str
) -> None:
    """Of the same size, so that only the version that the store gives can tell."""
    root = request.getfixturevalue(place)
    fill(root, {"w/a.jpg": b"AAA", "w/b.jpg": b"BBB", "w/empty.jpg": b"", "w/t.tar": tar_of({"m.jpg": b"M"})})
    before = listing(f"{root}/w")
    assert [open_entry(e, as_listed=True)[0].content for e in before] == [b"AAA", b"BBB", b"", b"M"]
    fill(root, {"w/a.jpg": b"aaa", "w/t.tar": tar_of({"m.jpg": b"m"})})
    first, second, empty, member = before
    for entry in (first, member):
        with pytest.raises(BadSample, match=r"changed: .* was written to after it was listed"):
            open_entry(entry, as_listed=True)
        open_entry(entry)  # whoever compares contents anyway
    assert [open_entry(e, as_listed=True)[0].content for e in (second, empty)] == [b"BBB", b""]
    fsspec.filesystem(place).rm_file(f"{root}/w/b.jpg")
    with pytest.raises(BadSample, match="unreadable"):
        open_entry(second, as_listed=True)


def test_keys_that_no_folder_can_hold_are_told_of(listing: Lister, s3: str) -> None:
    fill(s3, {"n/a.jpg": b"A", "n//b.jpg": b"B", "n/c//d.jpg": b"D", "n/c//e/f.jpg": b"F", "n/c/g.jpg": b"G"})
    told = {entry.name: entry.refusal and entry.refusal[0] for entry in listing(f"{s3}/n")}
    assert told == {
        "(no name)": "bad-name", "a.jpg": None, "c/(no name)": "bad-name", "c/g.jpg": None,
    }  # fmt: skip


def test_a_store_that_lists_times_and_no_etags_is_believed(listing: Lister, s3: str) -> None:
    fill(s3, {"x/a.jpg": b"AAA"})
    [entry] = listing(f"{s3}/x")
    timed = entry._replace(content=entry.content._replace(version="1767225600.0"))
    assert open_entry(timed, as_listed=True)[0].content == b"AAA"


def tar_of(members: dict[str, bytes]) -> bytes:
    with tarfile.open(fileobj=(out := io.BytesIO()), mode="w") as tar:
        for name, data in members.items():
            (info := tarfile.TarInfo(name)).size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def test_a_missing_driver_is_named(listing: Lister, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "adlfs", None)  # as where it is not installed
    monkeypatch.delitem(_registry, "az", raising=False)
    with pytest.raises(ValueError, match="needs the package adlfs"):
        listing("az://container/x")
