"""The loader over a real dataset, without Ray: the order is pure and resumes anywhere."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.loading import Loader, collate
from pipelines.shards.dataset import Corrupt, Dataset
from pipelines.shards.manifest import Books, Manifest, commit
from pipelines.shards.pack import pack_unit
from pipelines.shards.plan import SURVEY, make_plan
from pipelines.shards.planned import write_plan
from pipelines.shards.storage import open_storage
from pipelines.sources import list_source
from pipelines.stages.survey import survey_entries

SETTINGS: dict[str, Any] = {
    "seed": 0, "dedup": "none", "split": {"val": 0.2, "test": 0.0, "by": "scene"}, "stages": [],
    "shards": {"max_bytes": 2**28, "max_samples": 7, "shuffle": True}, "decode": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Forty synthetic pictures, built by the same functions as the Ray graph, in this process."""
    import pyarrow as pa

    import modalities

    kind = modalities.get("image")
    storage = open_storage(str(tmp_path_factory.mktemp("data")))
    source = SimpleNamespace(
        uri=None, synth=40, seed=0, labels="auto", glob=None, uri_column="uri", label_column="label",
        caption_column="caption",
    )  # fmt: skip
    rows = survey_entries(list(list_source(source, kind)), kind, [])
    plan = make_plan(pa.Table.from_pylist(rows, schema=SURVEY), settings=SETTINGS, patterns=kind.patterns)
    name = write_plan(storage, plan, "image")
    done = [pack_unit(storage, name, unit) for unit in range(plan.units)]
    manifest = Manifest(
        number=0, parent=None, modality="image", settings="", plans=[f"x/{name}"], classes=plan.classes,
        books=Books(inputs=40, written=40), shards=[d.shard for d in done if d.shard],
    )  # fmt: skip
    commit(storage, manifest)
    return Dataset.open(storage.url)


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
def test_ranks_share_the_same_global_sequence(dataset: Dataset, world: int) -> None:
    alone = keys(take(loader(dataset, batch_size=8).stream(), 11))
    ranks = [
        loader(dataset, batch_size=8 // world, rank=rank, world_size=world).stream() for rank in range(world)
    ]
    together: list[str] = []
    for _ in range(11):
        parts = [next(rank)["key"] for rank in ranks]
        together += [part[i] for i in range(8 // world) for part in parts]
    assert together == alone


def test_uneven_ranks_neither_lose_nor_double_the_last_batch(dataset: Dataset) -> None:
    loaders = [loader(dataset, batch_size=3, rank=rank, world_size=3) for rank in range(3)]
    assert Counter(key for load in loaders for key in keys(load)) == Counter(row.key for _, row in dataset)
    full = loader(dataset, batch_size=3, world_size=3, drop_last=True)
    assert (len(full), len(keys(full))) == (4, 12)


def test_splits_are_apart_and_labels_are_class_numbers(dataset: Dataset) -> None:
    train, val = loader(dataset, split="train"), loader(dataset, split="val")
    assert not set(keys(train)) & set(keys(val))
    labels = {row.key: row.label for _, row in dataset}
    for batch in loader(dataset):
        names = [dataset.manifest.classes[int(number)] for number in batch["label"]]
        assert names == [labels[key] for key in batch["key"]]


def test_a_damaged_member_is_an_error_that_names_it(dataset: Dataset, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(dataset.storage.url, tmp_path / "copy")
    copy = Dataset.open(str(tmp_path / "copy"))
    shard, row = next(iter(copy))
    path = tmp_path / "copy" / shard.key
    content = bytearray(path.read_bytes())
    content[max(row.files.values(), key=lambda member: member.size).offset + 5] ^= 4
    path.write_bytes(content)
    with pytest.raises(Corrupt, match=f"{row.key}.* is damaged"):
        keys(loader(copy))


def test_mistakes_name_what_was_wanted(dataset: Dataset) -> None:
    with pytest.raises(ValueError, match=r"no samples in split 'test' .* it has \['train', 'val'\]"):
        loader(dataset, split="test")
    with pytest.raises(ValueError, match="rank must be in"):
        loader(dataset, rank=2, world_size=2)
    with pytest.raises(ValueError, match="set a fixed size in data"):
        collate([{"image": np.zeros((3, 4, 4))}, {"image": np.zeros((3, 5, 4))}])
    with pytest.raises(LookupError, match=r"has no 'meta.gsd'"):
        next(iter(loader(dataset, targets=["meta.gsd"])))
