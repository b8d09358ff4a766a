"""Lists for other loaders, read by one of them."""

import json
import os
from collections import Counter
from pathlib import Path

from pipelines.loading.export import export
from pipelines.shards.dataset import Dataset


def test_webdataset_reads_every_sample_of_a_split_from_the_list(dataset: Dataset, tmp_path: Path) -> None:
    os.environ["WDS_SECURE"] = "1"
    import webdataset as wds

    written = export(dataset, tmp_path / "lists")
    assert [path.name for path in written] == ["train.txt", "train.json", "val.txt", "val.json"]
    for split in ("train", "val"):
        urls = (tmp_path / "lists" / f"{split}.txt").read_text().split()
        found = Counter(sample["__key__"] for sample in wds.WebDataset(urls, shardshuffle=False))
        assert found == Counter(row.key for shard, row in dataset if shard.split == split)
        index = json.loads((tmp_path / "lists" / f"{split}.json").read_text())
        assert sum(entry["nsamples"] for entry in index["shardlist"]) == sum(found.values())
        assert all(Path(entry["url"]).stat().st_size == entry["filesize"] for entry in index["shardlist"])
