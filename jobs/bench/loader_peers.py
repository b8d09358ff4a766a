"""WebDataset and LitData over the samples of a dataset, as fast as they go.

LitData is no dependency of this project: it takes part when it can be imported.
"""

import os
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.loading.augment.image import random_window
from pipelines.loading.pixels import mirror, resize
from pipelines.shards.dataset import Dataset


def pixels(data: bytes, size: int | None) -> Any:
    """A decoded picture, or a random part of it; resize and flip are the loader's, the fastest at hand."""
    import simplejpeg

    image = simplejpeg.decode_jpeg(data, "RGB")
    if size is None:
        return image
    rng = np.random.default_rng()
    window = random_window(image.shape[:2], rng, size=size)
    part = image[window.top : window.top + window.height, window.left : window.left + window.width]
    small = resize(part, window.size)
    return mirror(small) if rng.random() < 0.5 else small


def stacked(samples: list[tuple[Any, bytes]]) -> tuple[Any, list[int]]:
    """A batch, made in the worker."""
    import torch

    return torch.from_numpy(np.stack([image for image, _ in samples])), [int(label) for _, label in samples]


def webdataset(dataset: Dataset, *, batch_size: int, workers: int, size: int | None) -> Any:
    """Iterates batches of one epoch; the workers stay alive between epochs."""
    os.environ["WDS_SECURE"] = "1"
    import webdataset as wds

    urls = [str(Path(dataset.storage.url, shard.key)) for shard in dataset.manifest.shards]
    decode = partial(pixels, size=size)
    shards = wds.WebDataset(urls, shardshuffle=len(urls), seed=0, empty_check=False).shuffle(1000)
    batches = shards.to_tuple("jpg", "cls").map_tuple(decode, int).batched(batch_size, collation_fn=stacked)
    return wds.WebLoader(
        batches, batch_size=None, num_workers=workers, persistent_workers=True, prefetch_factor=4
    )


class _Lit:
    """Rows of a LitData dataset to tensors; built where LitData is."""

    @staticmethod
    def of(folder: str, size: int | None) -> Any:
        class Pictures(import_module("litdata").StreamingDataset):  # type: ignore[misc]
            def __getitem__(self, index: Any) -> Any:
                row = super().__getitem__(index)
                return pixels(row["jpg"], size), row["cls"]

        return Pictures(folder, shuffle=True)


def write_litdata(dataset: Dataset, folder: Path) -> None:
    """The same JPEGs in LitData's chunks of 64 MB."""
    writer = import_module("litdata.streaming.writer").BinaryWriter(str(folder), chunk_bytes="64MB")
    for i, (shard, row) in enumerate(dataset):
        files = dataset.files(shard, row)
        writer[i] = {"jpg": files["jpg"], "cls": int(files["cls"])}
    writer.done()
    writer.merge()


def litdata(folder: Path, *, batch_size: int, workers: int, size: int | None) -> Any:
    """Iterates batches of one epoch; the workers stay alive between epochs."""
    return import_module("litdata").StreamingDataLoader(
        _Lit.of(str(folder), size), batch_size=batch_size, num_workers=workers, collate_fn=stacked,
        persistent_workers=True, prefetch_factor=4,
    )  # fmt: skip
