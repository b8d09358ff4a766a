"""What a training process is fed: blended, damaged, growing and mixed datasets, named in the job."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from jobs.loop import Run
from pipelines.shards.dataset import Corrupt, Dataset
from pipelines.shards.manifest import Books, commit
from pipelines.shards.storage import open_storage

Config = Callable[..., dict[str, Any]]


def damage(dataset: str, copy: Path) -> str:
    """A copy with one bit of one training sample turned; its key."""
    shutil.copytree(dataset, copy)
    data = Dataset.open(str(copy))
    shard, row = next((shard, row) for shard, row in data if shard.split == "train")
    member = row.files["png" if "png" in row.files else "jpg"]
    path = copy / "shards" / f"{shard.digest}.tar"
    content = bytearray(path.read_bytes())
    content[member.offset + member.size // 2] ^= 1
    path.write_bytes(content)
    return str(row.key)


@pytest.mark.parametrize("mode", ["mixup", "cutmix"])
def test_the_loss_of_blended_samples_is_the_blend_of_their_losses(
    config_of: Config, tmp_path: Path, mode: str
) -> None:
    run = Run(config_of(tmp_path / "run", blend={mode: 1.0}, batch_size=8))
    ((part, share),) = run.feed.passes(next(run.feed.stream()))
    assert share == 1.0
    kept = part["soft_label"].gather(1, part["label"][:, None]).squeeze(1)
    other = part["label"].flip(0)
    unlike = part["label"] != other
    assert unlike.any()
    share_kept = kept[unlike][0]
    assert 0 < share_kept < 1
    run.plain.eval()
    outputs = run.plain(part)
    apart = [F.cross_entropy(outputs["prediction"], label) for label in (part["label"], other)]
    torch.testing.assert_close(outputs["loss"], share_kept * apart[0] + (1 - share_kept) * apart[1])
    run.work()
    assert run.step == 6


def test_smoothed_labels_raise_the_loss_of_a_sure_answer(config_of: Config, tmp_path: Path) -> None:
    plain, smooth = (Run(config_of(tmp_path / f"{s}", label_smoothing=s)) for s in (0.0, 0.2))
    ((part, _),) = plain.feed.passes(next(plain.feed.stream()))
    logits = plain.plain.eval()(part)["prediction"]
    wanted = F.cross_entropy(logits, part["label"], label_smoothing=0.2)
    torch.testing.assert_close(smooth.plain.eval()(part)["loss"], wanted)


def test_a_damaged_sample_ends_a_run_unless_bad_ones_are_skipped(config_of: Config, tmp_path: Path) -> None:
    key = damage(config_of(tmp_path / "x")["job"]["dataset"], tmp_path / "data")
    how = {"dataset": str(tmp_path / "data"), "skip_bad": True}
    with pytest.raises(Corrupt, match=key):
        Run(config_of(tmp_path / "strict", **(how | {"skip_bad": False}))).work()
    samples = Run(config_of(tmp_path / "probe", **how)).feed.loader.num_samples
    run = Run(config_of(tmp_path / "lenient", steps=2 * samples // 4, **how))
    run.work()
    assert run.feed.loader.skipped == Counter({"damaged": 2})  # once an epoch


def test_a_worker_without_samples_runs_one_that_counts_nothing(config_of: Config, tmp_path: Path) -> None:
    run = Run(config_of(tmp_path / "run", skip_bad=True, accumulate=2))
    batch = next(run.feed.stream())
    list(run.feed.passes(batch))
    short = {name: value[:1] for name, value in batch.items()}
    (first, share), (second, none) = run.feed.passes(short)
    assert (share, none) == (1.0, 0.0)
    assert len(first["image"]) == len(second["image"]) == 1
    assert run.feed.samples == 1
    with pytest.raises(ValueError, match="every sample of a step was left out"):
        list(run.feed.passes({name: value[:0] for name, value in batch.items()}))


def test_a_run_follows_a_dataset_that_grows_and_resumes_on_what_it_saw(
    config_of: Config, synthesize: Callable[..., Dataset], tmp_path: Path
) -> None:
    data = synthesize("image", 16, shards={"max_samples": 4})
    whole = data.manifest
    (tmp_path / "growing").mkdir()
    storage = open_storage(str(tmp_path / "growing"))
    for folder in ("shards", "index"):
        shutil.copytree(Path(data.storage.url) / folder, tmp_path / "growing" / folder)
    half = replace(whole, shards=whole.shards[:2], books=Books(inputs=8, written=8), plans=[])
    commit(storage, half)
    config = config_of(tmp_path / "run", dataset=storage.url, tail=True, steps=8)

    def work(until: int) -> Run:
        run = Run(config)
        run.job = run.job.model_copy(update={"steps": until})
        run.work()
        return run

    assert len(work(1).feed.loader) == 2  # batches of four
    commit(storage, replace(whole, number=1, parent=half.digest, plans=[]))
    assert work(2).feed.loader.epoch == 0  # the snapshot that the epoch began with
    run = work(6)
    assert (len(run.feed.loader), run.feed.loader.state_dict()["epoch"]) == (4, 2)
    notes = [json.loads(path.read_text()) for path in sorted((tmp_path / "run/epochs").iterdir())]
    assert [note["snapshot"] for note in notes] == [0, 1]


def test_a_new_class_in_a_dataset_that_is_followed_ends_the_run(config_of: Config, tmp_path: Path) -> None:
    run = Run(config_of(tmp_path / "run", tail=True))
    run.feed.spec = {**run.spec, "classes": run.spec["classes"][:-1]}
    with pytest.raises(ValueError, match=r"now has the classes .* the run began with"):
        next(run.feed.stream())


def test_open_shards_change_the_order_and_a_mixture_has_the_weights(
    config_of: Config, tmp_path: Path
) -> None:
    def keys(run: Run, steps: int) -> list[str]:
        batches = run.feed.stream()
        return [key for _ in range(steps) for key in next(batches)["key"]]

    one, all_ = (keys(Run(config_of(tmp_path / f"{n}", open_shards=n)), 4) for n in (1, None))
    assert len(set(one)) == 16
    assert one != all_
    same = config_of(tmp_path / "x")["job"]["dataset"]
    mixed = Run(config_of(tmp_path / "mixed", more=[{"dataset": same, "weight": 3.0}]))
    assert [source.part.weight for source in mixed.feed.loader.sources] == [1.0, 3.0]
