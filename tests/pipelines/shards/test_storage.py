import errno
import os
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from pipelines.seal import Corrupt, seal, unseal
from pipelines.shards.objects import ObjectStorage
from pipelines.shards.storage import (
    EARLY_BYTES,
    LocalStorage,
    Storage,
    open_storage,
    read_verified,
    staged_file,
)


@pytest.fixture(scope="module")
def s3() -> Iterator[None]:
    """A real HTTP server on loopback that speaks S3."""
    import boto3
    from moto.server import ThreadedMotoServer
    from s3fs import S3FileSystem

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        boto3.client("s3").create_bucket(Bucket="datasets")
        yield
        S3FileSystem.clear_instance_cache()  # s3fs would hand the next one a client of this server
    server.stop()


@pytest.fixture(params=["local", "memory", "s3", "root of s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "s3":
        request.getfixturevalue("s3")
        return open_storage(f"s3://datasets/{tmp_path.name}")
    if request.param == "root of s3":
        request.getfixturevalue("s3")
        import boto3

        bucket = f"root{uuid.uuid4().hex[:12]}"
        boto3.client("s3").create_bucket(Bucket=bucket)
        return open_storage(f"s3://{bucket}")
    return open_storage(str(tmp_path / "data") if request.param == "local" else f"memory://{tmp_path.name}")


def test_the_first_put_wins_and_the_second_says_so(storage: Storage) -> None:
    assert storage.put("a/b", b"first")
    assert not storage.put("a/b", b"second")
    assert storage.get("a/b") == b"first"


def test_ranges_sizes_lists_and_deletes(storage: Storage, tmp_path: Path) -> None:
    (path := tmp_path / "file").write_bytes(bytes(range(100)))
    assert storage.put("x/2", path)
    storage.put("x/1", b"abc")
    assert storage.get("x/2", 10, 5) == bytes(range(10, 15))
    assert (storage.size("x/2"), storage.size("x/none")) == (100, None)
    assert list(storage.list("x/")) == ["x/1", "x/2"]
    storage.delete("x/1")
    storage.delete("x/1")
    assert list(storage.list("x/")) == ["x/2"]
    with pytest.raises(FileNotFoundError):
        storage.get("x/1")


def test_s3_is_asked_once_what_is_there(s3: None) -> None:
    storage, asked = ObjectStorage("s3://datasets/once"), list[str]()
    assert storage.put("it", b"abc")

    def note(request: Any, **_: object) -> None:
        asked.append(f"{request.method} {urlsplit(request.url).path}")

    storage.files.s3.meta.events.register("before-send.s3", note)
    assert (storage.size("it"), storage.size("none")) == (3, None)
    assert (storage.modified("it") is None, storage.modified("none")) == (False, None)
    assert asked == [f"HEAD /datasets/once/{key}" for key in ("it", "none", "it", "none")]


def test_an_unfinished_upload_is_seen_by_its_key_and_can_be_dropped(storage: Storage) -> None:
    seen = storage.begin_upload("shards/half.tar", bytes(5 * 2**20))
    assert seen is not storage.url.startswith("memory")
    uploads = [upload for upload, _ in storage.uploads()]
    assert len(uploads) == seen
    if storage.url.startswith("s3"):
        assert uploads[0].startswith("shards/half.tar\n")
    assert list(storage.list("")) == []
    for upload in uploads:
        storage.abort(upload)
    assert list(storage.uploads()) == []


def test_the_root_of_memory_is_a_place_and_a_store_without_a_bucket_is_none() -> None:
    storage = open_storage("memory://")
    name = f"{uuid.uuid4().hex}/a"
    assert storage.put(name, b"x")
    assert (storage.get(name), name in set(storage.list(""))) == (b"x", True)
    storage.delete(name)
    assert storage.size(name) is None
    for url in ("s3://", "gs:///", "az://"):
        with pytest.raises(ValueError, match=r"names no bucket: want \w+://bucket"):
            open_storage(url)


def test_of_many_writers_at_once_exactly_one_wins(tmp_path: Path) -> None:
    storage, start, wins = LocalStorage(tmp_path), threading.Barrier(8), []

    def write(i: int) -> None:
        start.wait()
        if storage.put("race", str(i).encode() * 10_000):
            wins.append(i)

    threads = [threading.Thread(target=write, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wins) == 1
    assert storage.get("race") == str(wins[0]).encode() * 10_000


class Noisy(LocalStorage):
    """Flips a bit of the first answers."""

    flips = 0

    def get(self, key: str, offset: int = 0, size: int | None = None) -> bytes:
        content = super().get(key, offset, size)
        self.flips -= 1
        return content if self.flips < 0 else bytes([content[0] ^ 1]) + content[1:]


def test_a_bit_that_flips_on_the_way_is_read_again_and_one_that_lies_there_is_told(tmp_path: Path) -> None:
    storage = Noisy(tmp_path)
    storage.put("a/b", seal({"some": "thing"}))
    storage.flips = 1
    assert read_verified(storage, "a/b", unseal)["some"] == "thing"
    assert storage.flips == -1  # twice, and no third time
    storage.flips = 2
    with pytest.raises(Corrupt, match=f"a/b in {tmp_path} is damaged: "):
        read_verified(storage, "a/b", unseal)
    with pytest.raises(FileNotFoundError):
        read_verified(storage, "a/c", unseal)


def test_a_disk_without_hard_links_says_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")  # exFAT, and much of FUSE

    monkeypatch.setattr("os.link", refused)
    storage = LocalStorage(tmp_path)
    with pytest.raises(OSError, match="no hard links here"):
        storage.put("shards/a.tar", b"whole")
    assert list(storage.list("")) == []


def test_the_disk_begins_while_a_shard_is_still_being_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []
    plain = os.posix_fadvise

    def note(file: int, start: int, length: int, advice: int) -> None:
        asked.append((start, start + length))
        assert advice == os.POSIX_FADV_DONTNEED
        assert os.fstat(file).st_size >= start + length  # what is not handed over yet nobody can write
        plain(file, start, length, advice)
        raise OSError(errno.ENOSYS, "no such hint here")

    monkeypatch.setattr(os, "posix_fadvise", note)
    pieces = [bytes([i]) * 300_000 for i in range(100)]
    for place in (str(tmp_path / "data"), f"memory://{tmp_path.name}"):
        asked.clear()
        with (storage := open_storage(place)).staging() as folder:
            with staged_file(folder / "shard.tar") as file:
                for piece in pieces:
                    file.write(piece)
            assert (folder / "shard.tar").read_bytes() == b"".join(pieces)
            storage.put("a", folder / "shard.tar")
        assert storage.get("a") == b"".join(pieces)
        starts, ends = zip(*asked, strict=True) if asked else ((), ())
        assert starts == ((0, *ends[:-1]) if asked else ())  # each part once
        assert bool(asked) is not place.startswith("memory")
        assert not asked or ends[-1] > 30_000_000 - 2 * EARLY_BYTES


def test_staging_leaves_nothing_behind(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.put("a", b"1")
    storage.put("a", b"2")
    assert [p for p in (tmp_path / ".staging").iterdir()] == []


def test_a_file_url_is_percent_decoded_and_a_path_is_not(tmp_path: Path) -> None:
    open_storage(f"file://{tmp_path}/a%20b").put("key", b"1")
    open_storage(f"{tmp_path}/a%20b").put("key", b"2")
    assert (tmp_path / "a b" / "key").read_bytes() == b"1"
    assert (tmp_path / "a%20b" / "key").read_bytes() == b"2"


@pytest.mark.parametrize("url", ["pipe:cat", "ssh://host/x", "simplecache::s3://b/x", "http://host/x"])
def test_places_that_cannot_hold_a_dataset_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="cannot keep a dataset"):
        open_storage(url if "://" in url or "::" in url else f"{url}://")
