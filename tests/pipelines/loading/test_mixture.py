"""Weighted mixtures of datasets of several modalities."""

import json
from collections import Counter
from typing import Any

import pytest
import torch

from pipelines.loading import Loader, Part
from pipelines.shards.dataset import Dataset

SMALL = {"image": {"size": 8}, "pointcloud": {"num_points": 16}, "hyperspectral": {"size": 4, "bands": 6}}
WEIGHTS = {"image": 0.5, "pointcloud": 0.3, "hyperspectral": 0.2}


@pytest.fixture(scope="module")
def parts(dataset: Dataset, clouds: Dataset, cubes: Dataset) -> list[Part]:
    return [
        Part(dataset=one, name=one.manifest.modality, weight=WEIGHTS[one.manifest.modality], augment=True,
             options=SMALL[one.manifest.modality])
        for one in (dataset, clouds, cubes)
    ]  # fmt: skip


def take(loader: Loader, count: int) -> list[Any]:
    batches = loader.stream()
    return [next(batches) for _ in range(count)]


def merged(ranks: list[list[Any]]) -> list[tuple[str, str]]:
    """(source, key) in the order that all ranks share."""
    found = []
    for batches in zip(*ranks, strict=True):
        for row in range(max(len(batch["key"]) for batch in batches)):
            found += [
                (batch["source"][row], batch["key"][row]) for batch in batches if row < len(batch["key"])
            ]
    return found


def test_batches_come_from_one_part_and_parts_have_their_shares(parts: list[Part]) -> None:
    batches = take(Loader(parts, batch_size=2, seed=3), 300)
    assert all(len(set(batch["source"])) == 1 for batch in batches)
    shares = Counter(batch["source"][0] for batch in batches)
    assert {name: shares[name] / 300 for name in WEIGHTS} == pytest.approx(WEIGHTS, abs=0.05)


def test_every_part_runs_through_whole_epochs_of_its_own(parts: list[Part], cubes: Dataset) -> None:
    batches = take(Loader(parts, batch_size=2), 100)
    keys = [key for batch in batches if batch["source"][0] == "hyperspectral" for key in batch["key"]]
    count = cubes.manifest.samples
    assert len(keys) > 2 * count
    assert Counter(keys[:count]) == Counter(keys[count : 2 * count]) == Counter(row.key for _, row in cubes)


@pytest.mark.parametrize("world", [2, 4, 8])
def test_any_number_of_ranks_reads_the_same_sequence(parts: list[Part], world: int) -> None:
    alone = merged([take(Loader(parts, batch_size=8), 6)])
    ranks = [
        take(Loader(parts, batch_size=8 // world, rank=rank, world_size=world), 6) for rank in range(world)
    ]
    assert merged(ranks) == alone


@pytest.mark.parametrize("at", [1, 7, 19])
def test_a_mixture_resumes_bit_for_bit_with_other_ranks_and_workers(parts: list[Part], at: int) -> None:
    """Across epochs of every part: there are fewer cubes than are read."""
    whole = take(Loader(parts, batch_size=4), 30)
    start = Loader(parts, batch_size=4)
    take(start, at)
    state = json.loads(json.dumps(start.state_dict()))
    ranks = [Loader(parts, batch_size=2, rank=rank, world_size=2, num_workers=rank * 3) for rank in range(2)]
    for loader in ranks:
        loader.load_state_dict(state)
    halves = [take(loader, 30 - at) for loader in ranks]
    for first, second, want in zip(*halves, whole[at:], strict=True):
        for name in want.keys() - {"key", "source"}:
            together = torch.stack([first[name], second[name]], 1).flatten(0, 1)
            assert torch.equal(together, want[name]), name
        assert [key for pair in zip(first["key"], second["key"], strict=True) for key in pair] == want["key"]


def test_samples_of_like_parts_may_be_mixed_inside_batches(dataset: Dataset) -> None:
    halves = [
        Part(dataset=dataset, split=split, name=split, options=SMALL["image"]) for split in ("train", "val")
    ]
    loader = Loader(halves, batch_size=8, mix="samples")
    batch = next(loader.stream())
    assert set(batch["source"]) == {"train", "val"}
    assert batch["image"].shape == (8, 3, 8, 8)
    ranks = [take(Loader(halves, batch_size=4, mix="samples", rank=r, world_size=2), 9) for r in range(2)]
    assert merged(ranks) == merged([take(Loader(halves, batch_size=8, mix="samples"), 9)])


def test_an_epoch_of_a_mixture_is_as_long_as_its_parts_together(parts: list[Part]) -> None:
    loader = Loader(parts, batch_size=4)
    assert loader.num_samples == 68  # 40 + 16 + 9, in whole batches
    assert sum(len(batch["key"]) for batch in loader) == 68
    assert (loader.epoch, len(loader)) == (1, 17)


def test_the_state_is_small_and_belongs_to_its_mixture(parts: list[Part]) -> None:
    state = Loader(parts, batch_size=4).state_dict()
    assert len(json.dumps(state)) < 1000
    with pytest.raises(ValueError, match="the state is of snapshots"):
        Loader(parts[:2], batch_size=4).load_state_dict(state)
    with pytest.raises(
        ValueError, match="the state is of global batches from one part of 4, this loader has 6"
    ):
        Loader(parts, batch_size=6).load_state_dict(state)


@pytest.mark.parametrize("mix", ["batches", "samples"])
def test_raw_samples_of_a_mixture_come_in_the_order_of_its_batches(dataset: Dataset, mix: str) -> None:
    few = [
        Part(dataset=dataset, name=split, weight=weight, split=split, options=SMALL["image"])
        for split, weight in (("train", 0.7), ("val", 0.3))
    ]
    want = [batch["key"] for batch in Loader(few, batch_size=4, mix=mix)]
    assert [batch["key"] for batch in Loader(few, batch_size=4, mix=mix).raw()] == want
    assert len({tuple(keys) for keys in want}) > 1


def test_mistakes_are_said(parts: list[Part], tmp_path: Any) -> None:
    with pytest.raises(ValueError, match="mix must be 'batches' or 'samples', got 'tokens'"):
        Loader(parts, batch_size=4, mix="tokens")
    with pytest.raises(ValueError, match="tail: a mixture cannot follow"):
        Loader(parts, batch_size=4, tail=str(tmp_path))
