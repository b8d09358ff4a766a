"""Which snapshot an epoch takes while ingestion goes on: decided once, by whichever rank begins it first."""

from pipelines.jsontext import dumps, loads
from pipelines.shards.dataset import Dataset
from pipelines.shards.manifest import latest
from pipelines.shards.storage import open_storage


class Tail:
    """Notes in a folder, one an epoch, written if absent: every rank and every resumed run reads the same."""

    def __init__(self, folder: str) -> None:
        self.storage = open_storage(folder)

    def snapshot(self, dataset: Dataset, epoch: int) -> Dataset:
        """The dataset at the epoch's snapshot: the noted one, or the newest, which is then noted."""
        key = f"epochs/{epoch:08}.json"
        try:
            note = loads(self.storage.get(key))
        except FileNotFoundError:
            newest = latest(dataset.storage)
            self.storage.put(key, dumps({"snapshot": newest}).encode())
            note = loads(self.storage.get(key))
        if note["snapshot"] == dataset.manifest.number:
            return dataset
        return Dataset.open(dataset.storage.url, note["snapshot"])
