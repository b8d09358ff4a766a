"""Lists of shards for other loaders: any reader of WebDataset tars takes the shards as they are."""

from pathlib import Path

from pipelines.jsontext import dumps
from pipelines.shards.dataset import Dataset


def export(dataset: Dataset, folder: Path) -> list[Path]:
    """Write for each split `<split>.txt`, a URL a line, and `<split>.json`, an index with counts and sizes.

    Nothing is copied. The order is the manifest's. The JSON is that of webdataset's wids readers. What these
    readers do not do: check the members' checksums, leave out other snapshots' shards, resume.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for split in sorted({shard.split for shard in dataset.manifest.shards}):
        shards = [shard for shard in dataset.manifest.shards if shard.split == split]
        urls = [f"{dataset.storage.url}/{shard.key}" for shard in shards]
        listing = [
            {"url": url, "nsamples": shard.samples, "filesize": shard.size}
            for url, shard in zip(urls, shards, strict=True)
        ]
        index = {"__kind__": "wids-shard-index-v1", "wids_version": 1, "name": split, "shardlist": listing}
        for path, text in ((f"{split}.txt", "\n".join(urls) + "\n"), (f"{split}.json", dumps(index) + "\n")):
            (folder / path).write_text(text)
            written.append(folder / path)
    return written
