"""The loader over a real dataset, without Ray: the order is pure and resumes anywhere."""

import gc
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from jobs.bench.ingest import make_laz
from jobs.bench.loader import build as build_as_given
from pipelines.loading import Loader, collate
from pipelines.shards.dataset import Corrupt, Dataset


def loader(dataset: Dataset, **options: Any) -> Loader:
    return Loader(dataset, **({"batch_size": 4, "options": {"size": 16}} | options))


def keys(batches: Any) -> list[str]:
    return [key for batch in batches for key in batch["key"]]


def take(batches: Any, count: int) -> list[Any]:
    return [next(batches) for _ in range(count)]


def test_an_epoch_has_every_sample_once_and_the_next_another_order(dataset: Dataset) -> None:
    load = loader(dataset)
    first, second = keys(load), keys(load)
    assert Counter(first) == Counter(second) == Counter(row.key for _, row in dataset)
    assert first != second
    assert keys(loader(dataset)) == first
    assert keys(loader(dataset, seed=1)) != first


@pytest.mark.parametrize("workers", [0, 3])
@pytest.mark.parametrize("at", [1, 4, 11, 17])
def test_resuming_anywhere_goes_on_bit_for_bit(dataset: Dataset, workers: int, at: int) -> None:
    whole = loader(dataset, augment=True, num_workers=workers)
    expected = take(whole.stream(), 25)
    start = loader(dataset, augment=True)
    take(start.stream(), at)
    rest = loader(dataset, augment=True, num_workers=workers)
    rest.load_state_dict(start.state_dict())
    for got, want in zip(take(rest.stream(), 25 - at), expected[at:], strict=True):
        assert got["key"] == want["key"]
        assert torch.equal(got["image"], want["image"])


@pytest.mark.parametrize("world", [1, 2, 4, 8])
def test_ranks_and_workers_share_the_same_global_sequence(dataset: Dataset, world: int) -> None:
    """Over epochs, and from the middle of one: 88 samples of epochs of 40, and 24 from sample 64 on."""
    expected = keys(take(loader(dataset, batch_size=8, options={"size": 4}).stream(), 11))
    for skipped in (0, 8):
        together: list[list[Any]] = []
        for rank in range(world):
            options = {"batch_size": 8 // world, "rank": rank, "world_size": world, "options": {"size": 4}}
            one = loader(dataset, num_workers=(rank + skipped) % 5, **options)
            if skipped:
                before = loader(dataset, batch_size=8, options={"size": 4})
                take(before.stream(), skipped)
                one.load_state_dict(before.state_dict())
            together.append(take(one.stream(), 11 - skipped))
        rows = [batch["key"] for step in zip(*together, strict=True) for batch in step]
        dealt = [
            key
            for step in range(0, len(rows), world)
            for row in zip(*rows[step : step + world], strict=True)
            for key in row
        ]
        assert dealt == expected[8 * skipped :]


@pytest.mark.parametrize(("world", "batch_size"), [(3, 3), (7, 5), (16, 4), (64, 1)])
def test_uneven_ranks_have_as_many_batches_and_no_sample_twice(
    dataset: Dataset, world: int, batch_size: int
) -> None:
    """There are six shards; ranks that are left without samples get batches without rows."""
    options = {"batch_size": batch_size, "world_size": world, "options": {"size": 4}}
    ranks = [list(loader(dataset, rank=rank, **options)) for rank in range(world)]
    assert {len(batches) for batches in ranks} == {len(loader(dataset, **options))}
    assert Counter(key for batches in ranks for key in keys(batches)) == Counter(
        row.key for _, row in dataset
    )
    shapes = {tuple(batch["image"].shape[1:]) for batches in ranks for batch in batches}
    assert shapes == {(3, 4, 4)}
    assert all(len(batch["label"]) == len(batch["key"]) for batches in ranks for batch in batches)


def test_drop_last_leaves_out_what_fills_no_global_batch(dataset: Dataset) -> None:
    full = loader(dataset, batch_size=3, world_size=3, drop_last=True)
    assert (len(full), len(keys(full))) == (4, 12)


def test_a_state_taken_after_the_last_batch_begins_the_next_epoch(dataset: Dataset) -> None:
    one = loader(dataset, batch_size=16)
    batches = iter(one)
    take(batches, 3)
    state = one.state_dict()
    assert (state["epoch"], state["position"]) == (1, 0)
    other = loader(dataset, batch_size=16)
    other.load_state_dict(json.loads(json.dumps(state)))
    list(batches)
    assert keys(other) == keys(one)


def test_the_state_is_small_and_belongs_to_seed_and_snapshot(dataset: Dataset, clouds: Dataset) -> None:
    state = loader(dataset).state_dict()
    assert len(json.dumps(state)) < 1000
    with pytest.raises(ValueError, match="the state is of seed 0, this loader has seed 1"):
        loader(dataset, seed=1).load_state_dict(state)
    with pytest.raises(ValueError, match="the state is of snapshots"):
        Loader(clouds, batch_size=4).load_state_dict(state)
    with pytest.raises(ValueError, match="position 40 is not in an epoch of 40 samples"):
        loader(dataset).load_state_dict(state | {"position": 40})


def test_a_batch_can_be_had_by_its_number(dataset: Dataset) -> None:
    batches = list(loader(dataset, augment=True, batch_size=7))
    one = loader(dataset, augment=True, batch_size=7)
    for number in (5, 0, 3):
        assert torch.equal(one.batch(0, number)["image"], batches[number]["image"])
    with pytest.raises(IndexError, match="an epoch has 6 batches, got number 6"):
        one.batch(0, 6)


def test_raw_samples_are_the_stored_bytes_in_the_same_order(dataset: Dataset) -> None:
    raw = list(loader(dataset, batch_size=6).raw())
    assert keys(raw) == keys(loader(dataset, batch_size=6))
    places = {row.key: (shard, row) for shard, row in dataset}
    for batch in raw:
        for key, files in zip(batch["key"], batch["files"], strict=True):
            assert {ext: bytes(content) for ext, content in files.items()} == dataset.files(*places[key])


@pytest.mark.parametrize("workers", [0, 2])
def test_torchs_own_data_loader_gives_the_same_batches(dataset: Dataset, workers: int) -> None:
    expected = list(loader(dataset, augment=True))
    context = "forkserver" if workers else None
    found = DataLoader(
        loader(dataset, augment=True), batch_size=None, num_workers=workers, multiprocessing_context=context
    )
    for got, want in zip(found, expected, strict=True):
        assert got["key"] == want["key"]
        assert torch.equal(got["image"], want["image"])


def test_memory_of_a_batch_is_used_again_only_when_nobody_looks_at_it(dataset: Dataset) -> None:
    kept = take(loader(dataset, num_workers=2).stream(), 10)
    views = [batch["image"][1:, 0].numpy() for batch in take(loader(dataset, num_workers=2).stream(), 10)]
    for batch, view, want in zip(kept, views, take(loader(dataset).stream(), 10), strict=True):
        assert torch.equal(batch["image"], want["image"])
        assert np.array_equal(view, want["image"][1:, 0])


def test_splits_are_apart_and_labels_are_class_numbers(dataset: Dataset) -> None:
    train, val = loader(dataset, split="train"), loader(dataset, split="val")
    assert not set(keys(train)) & set(keys(val))
    labels = {row.key: row.label for _, row in dataset}
    for batch in loader(dataset):
        names = [dataset.manifest.classes[int(number)] for number in batch["label"]]
        assert names == [labels[key] for key in batch["key"]]


def test_raw_iteration_keeps_the_files_of_a_batch_alive_and_no_others(dataset: Dataset) -> None:
    """Python's collector goes through what lives: with all files of an epoch it took a third of the time."""
    one = loader(dataset, batch_size=2)
    assert one.num_samples > 20
    before = sum(type(o) is memoryview for o in gc.get_objects())
    alive = [sum(type(o) is memoryview for o in gc.get_objects()) - before for _ in one.raw()]
    shards = len(one.dataset.manifest.shards)  # each is mapped, and looked at as a whole
    assert max(alive) <= shards + 2 * 2 * 2  # samples of two batches, with two files


@pytest.fixture
def damaged(dataset: Dataset, tmp_path: Path) -> tuple[Dataset, str]:
    """A copy with one bit of one picture turned, and that picture's key."""
    shutil.copytree(dataset.storage.url, tmp_path / "copy")
    copy = Dataset.open(str(tmp_path / "copy"))
    shard, row = next(iter(copy))
    path = tmp_path / "copy" / shard.key
    content = bytearray(path.read_bytes())
    content[max(row.files.values(), key=lambda member: member.size).offset + 5] ^= 4
    path.write_bytes(content)
    return copy, row.key


@pytest.mark.parametrize("how", ["batches", "raw"])
def test_a_damaged_member_is_an_error_that_names_it(damaged: tuple[Dataset, str], how: str) -> None:
    copy, key = damaged
    one = loader(copy, num_workers=2)
    with pytest.raises(Corrupt, match=f"sample {key} in shards/.* is damaged .*rayloom repair"):
        keys(one if how == "batches" else one.raw())


@pytest.mark.parametrize("how", ["batches", "raw"])
def test_damaged_samples_are_skipped_and_counted_when_asked_for(
    damaged: tuple[Dataset, str], how: str
) -> None:
    copy, key = damaged
    one = loader(copy, num_workers=2, skip_bad=True)
    found = keys(one.raw() if how == "raw" else one)
    assert Counter(found) == Counter(row.key for _, row in copy if row.key != key)
    assert one.skipped == {"damaged": 1}


def test_processes_give_what_threads_give_and_count_alike(damaged: tuple[Dataset, str]) -> None:
    copy, _ = damaged
    threads, processes = (
        loader(copy, augment=True, num_workers=2, skip_bad=True, processes=how) for how in (False, True)
    )
    for got, want in zip(processes, threads, strict=True):
        assert got["key"] == want["key"]
        assert torch.equal(got["image"], want["image"])
    assert processes.skipped == threads.skipped == {"damaged": 1}
    assert processes.state_dict() == threads.state_dict()


def test_workers_are_processes_where_the_decoder_keeps_the_lock(dataset: Dataset, tmp_path: Path) -> None:
    samples = ((f"cloud{i}", {"laz": make_laz(i)}) for i in range(4))
    laz = build_as_given(tmp_path / "laz", "pointcloud", samples, per_shard=4)
    alone, apart = (Loader(laz, batch_size=1, prepare=False, num_workers=count) for count in (0, 2))
    for want, got in zip(alone, apart, strict=True):
        assert got["key"] == want["key"]
        assert torch.equal(got["points"], want["points"])
    pictures = loader(dataset, num_workers=2)
    keys(pictures)
    assert (alone.processes, apart.processes, pictures.processes) == (None, True, False)


def test_a_shard_of_another_length_is_refused_before_it_is_mapped(damaged: tuple[Dataset, str]) -> None:
    copy, _ = damaged
    path = Path(copy.storage.url, copy.manifest.shards[0].key)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Corrupt, match=r"bytes, want .*rayloom repair"):
        keys(loader(copy, skip_bad=False))


def test_a_batch_of_nothing_but_bad_samples_has_no_rows(damaged: tuple[Dataset, str]) -> None:
    copy, _ = damaged
    sizes = {len(batch["key"]): batch["image"].shape for batch in loader(copy, batch_size=1, skip_bad=True)}
    assert sizes == {1: (1, 3, 16, 16), 0: (0, 3, 16, 16)}


def test_mistakes_name_what_was_wanted(dataset: Dataset) -> None:
    with pytest.raises(ValueError, match=r"no samples in split 'test' .* it has \['train', 'val'\]"):
        loader(dataset, split="test")
    with pytest.raises(ValueError, match="rank must be in"):
        loader(dataset, rank=2, world_size=2)
    with pytest.raises(ValueError, match="set a fixed size in data"):
        collate([{"image": np.zeros((3, 4, 4))}, {"image": np.zeros((3, 5, 4))}])
    with pytest.raises(LookupError, match=r"has no 'meta.gsd'"):
        next(iter(loader(dataset, targets=["meta.gsd"])))


def test_waiting_is_counted(dataset: Dataset) -> None:
    one = loader(dataset)
    list(one)
    assert one.waited_s > 0
