"""Batches made by Ray's workers."""

from pathlib import Path

import pytest
import torch

from jobs.bench.loader import build
from modalities.image import MODALITY
from pipelines.graphs.stream import batches, ordered, stream
from pipelines.loading import Loader


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_ray_gives_each_rank_the_loaders_batches_in_order(tmp_path: Path) -> None:
    import ray

    dataset = build(
        tmp_path / "data", "image", ((f"s{i}", MODALITY.synth(i)) for i in range(20)), per_shard=6
    )
    ray.data.DataContext.get_current().execution_options.preserve_order = False
    ordered()
    for rank in range(2):
        options = {"batch_size": 3, "rank": rank, "world_size": 2, "augment": True, "options": {"size": 8}}
        loader = Loader(dataset, **options)
        loader.epoch = 1
        expected = list(loader)
        found = list(batches(stream(Loader(dataset, **options), epoch=1, start=rank, workers=2)))
        assert len(found) == len(expected) - rank
        for got, want in zip(found, expected[rank:], strict=True):
            assert got["key"] == want["key"]
            assert torch.equal(got["image"], want["image"])
