"""Reading samples from afar: ranges first, whole shards from the cache once they are there."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.loading import Loader
from pipelines.loading.cache import ShardCache
from pipelines.loading.catalog import read_page
from pipelines.loading.reading import Reader
from pipelines.shards.dataset import Corrupt, Dataset
from pipelines.shards.manifest import Shard
from pipelines.shards.storage import open_storage


@pytest.fixture(scope="module")
def far(dataset: Dataset) -> Dataset:
    """The same dataset in an object store."""
    target = open_storage("memory://loading-far")
    for prefix in ("manifest/", "index/", "shards/"):
        for key in dataset.storage.list(prefix):
            target.put(key, dataset.storage.get(key))
    return Dataset.open("memory://loading-far")


@pytest.fixture
def store(far: Dataset) -> Iterator[Dataset]:
    """The far dataset, to be damaged: what a test changes is put back."""
    shard = far.manifest.shards[0]
    content = far.storage.get(shard.key)
    yield far
    far.storage.delete(shard.key)
    far.storage.put(shard.key, content)


def keys(loader: Loader) -> list[str]:
    return [key for batch in loader for key in batch["key"]]


def waited(reader: Reader) -> None:
    for copying in reader._copying:
        copying.result()


@pytest.mark.parametrize("cache_bytes", [0, 2**30])
def test_an_object_store_gives_the_same_sequence(
    dataset: Dataset, far: Dataset, tmp_path: Path, cache_bytes: int
) -> None:
    options: dict[str, Any] = {"batch_size": 5, "options": {"size": 4}}
    expected = keys(Loader(dataset, **options))
    loader = Loader(far, num_workers=2, cache=tmp_path, cache_bytes=cache_bytes, **options)
    assert keys(loader) == expected
    reader = loader.sources[0].reader
    waited(reader)
    assert bool(cache_bytes) == bool(list(tmp_path.glob("*.tar")))
    ranged = reader.counts["ranged"]
    keys(loader)
    assert (reader.counts["ranged"] == ranged) == bool(cache_bytes), "the second epoch is read from the cache"
    reader.close()


def test_nobody_waits_for_a_whole_shard(far: Dataset, tmp_path: Path) -> None:
    reader = Reader(far.storage, cache=ShardCache(tmp_path, 2**30))
    page = read_page(far, far.manifest.shards[0])
    assert "meta.json" in reader.files(page, 0)
    assert (reader.counts["ranged"], reader.counts["mapped"]) == (1, 0)
    reader.prefetch([page.shard])
    waited(reader)
    assert reader.files(page, 0) == reader.files(page, 0)
    assert reader.counts["mapped"] == 2
    reader.close()


def test_the_prefetch_stays_within_its_budget(far: Dataset, tmp_path: Path) -> None:
    shards = far.manifest.shards
    reader = Reader(
        far.storage, cache=ShardCache(tmp_path, 2**30), prefetch_bytes=shards[0].size + shards[1].size
    )
    reader.prefetch(shards)
    waited(reader)
    assert {path.stem for path in tmp_path.glob("*.tar")} == {shard.digest for shard in shards[:2]}
    assert reader.counts["copied"] == shards[0].size + shards[1].size
    reader.close()


def test_the_cache_gives_up_what_was_used_least_recently(far: Dataset, tmp_path: Path) -> None:
    first, second, third = far.manifest.shards[:3]
    cache = ShardCache(tmp_path, first.size + second.size + third.size - 1)
    for shard in (first, second):
        cache.fetch(far.storage, shard)
    assert cache.find(first)
    cache.fetch(far.storage, third)
    held = {path.stem for path in tmp_path.iterdir()}
    assert held == {first.digest, third.digest}
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= cache.limit


def test_a_shard_over_the_limit_is_not_cached(far: Dataset, tmp_path: Path) -> None:
    shard = far.manifest.shards[0]
    assert ShardCache(tmp_path, shard.size - 1).fetch(far.storage, shard) is None
    assert not list(tmp_path.iterdir())


def test_two_processes_do_not_copy_the_same_shard(far: Dataset, tmp_path: Path) -> None:
    import fcntl

    shard = far.manifest.shards[0]
    with (tmp_path / f"{shard.digest}.part").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert ShardCache(tmp_path, 2**30).fetch(far.storage, shard) is None
    assert ShardCache(tmp_path, 2**30).fetch(far.storage, shard), "what a dead process left is taken over"


def damage(far: Dataset) -> Shard:
    shard = far.manifest.shards[0]
    content = bytearray(far.storage.get(shard.key))
    member = max(far.rows(shard)[0].files.values(), key=lambda member: member.size)
    content[member.offset + 3] ^= 1
    far.storage.delete(shard.key)
    far.storage.put(shard.key, bytes(content))
    return shard


def test_a_damaged_shard_never_enters_the_cache(store: Dataset, tmp_path: Path) -> None:
    shard = damage(store)
    with pytest.raises(Corrupt, match="is not what its name says; run rayloom repair"):
        ShardCache(tmp_path, 2**30).fetch(store.storage, shard)
    assert not list(tmp_path.iterdir())


def test_a_damaged_copy_is_given_up_and_the_store_is_asked_again(far: Dataset, tmp_path: Path) -> None:
    cache = ShardCache(tmp_path, 2**30)
    page = read_page(far, far.manifest.shards[0])
    path = cache.fetch(far.storage, page.shard)
    assert path
    content = bytearray(path.read_bytes())
    content[page.members(0)[0][1]] ^= 1
    path.write_bytes(content)
    reader = Reader(far.storage, cache=cache)
    files = reader.files(page, 0)
    row = far.rows(page.shard)[0]
    assert {ext: bytes(content) for ext, content in files.items()} == far.files(page.shard, row)
    assert reader.counts["healed"] == 1
    assert cache.find(page.shard) is None


def test_damage_in_the_store_is_an_error(store: Dataset, tmp_path: Path) -> None:
    shard = damage(store)
    page = read_page(store, shard)
    with pytest.raises(Corrupt, match=f"sample {page.key(0)} in {shard.key} of memory://.* rayloom repair"):
        Reader(store.storage).files(page, 0)
