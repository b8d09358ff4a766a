"""Training on a dataset that grows."""

import json
from collections import Counter
from pathlib import Path

from pipelines.loading import Loader
from pipelines.shards.dataset import Dataset


def keys(loader: Loader) -> list[str]:
    return [key for batch in loader for key in batch["key"]]


def test_an_epoch_keeps_its_snapshot_and_the_next_takes_the_newest(build, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    url = str(tmp_path / "data")
    build("image", 12, url=url)
    options = {"batch_size": 3, "world_size": 2, "options": {"size": 4}, "tail": str(tmp_path / "run")}
    ranks = [Loader(Dataset.open(url), rank=rank, **options) for rank in range(2)]
    first = [iter(loader) for loader in ranks]
    seen = [next(batches)["key"] for batches in first]
    build("image", 20, url=url, number=1)
    late = Loader(url, rank=0, **options)  # a rank that starts again, when the newest is another one
    state = json.loads(json.dumps(ranks[0].state_dict()))
    late.load_state_dict(state)
    seen += [[key for batch in batches for key in batch["key"]] for batches in first]
    assert Counter(key for part in seen for key in part) == Counter(
        row.key for _, row in Dataset.open(url, 0)
    )
    assert keys(late) == seen[2]
    second = Counter(key for loader in ranks for key in keys(loader))
    assert second == Counter(row.key for _, row in Dataset.open(url, 1))
    assert [len(loader) for loader in ranks] == [4, 4]


def test_a_stream_runs_from_snapshot_to_snapshot(build, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    url = str(tmp_path / "data")
    build("image", 7, url=url)
    loader = Loader(url, batch_size=4, options={"size": 4}, tail=str(tmp_path / "run"))
    stream = loader.stream()
    sizes = [len(next(stream)["key"])]
    build("image", 9, url=url, number=1)
    sizes += [len(next(stream)["key"]) for _ in range(4)]
    assert sizes == [4, 3, 4, 4, 1]
