"""What changed between two snapshots; what a repair can do without its sources."""

import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from jobs import storage as commands
from jobs.chaos.small import SETTINGS
from jobs.cli import main
from pipelines.shards import spill
from pipelines.shards.check import find_problems
from pipelines.shards.dataset import Dataset
from pipelines.shards.difference import Difference, difference, open_snapshot
from pipelines.shards.index import Row, write_index
from pipelines.shards.manifest import Books, Manifest, Shard, commit
from pipelines.shards.repair import repair
from pipelines.shards.storage import LocalStorage
from pipelines.shards.tar import BLOCK, Member


def test_snapshots_are_compared_sample_by_sample(damaged: Path) -> None:
    first, second = open_snapshot(f"{damaged}@0"), open_snapshot(str(damaged))
    added = {row.key for _, row in second} - {row.key for _, row in first}
    assert [d.key for d in difference(first, second)] == sorted(added)
    assert {d.what for d in difference(first, second)} == {"added"}
    assert {d.what for d in difference(second, first)} == {"removed"}
    assert list(difference(second, second)) == []
    assert Difference("added", "x") != Difference("removed", "x")


def test_the_command_says_so_by_its_exit_code(damaged: Path, capsys: Any) -> None:
    assert commands.diff(f"{damaged}@0", str(damaged), as_json=True) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["what"] for line in lines} == {"added"}
    assert commands.diff(str(damaged), str(damaged)) == 0
    assert "the same data" in capsys.readouterr().err


def snapshot(folder: Path, samples: list[dict[str, Any]], each: int, split: str = "train") -> Dataset:
    """A dataset of which there is all that a comparison reads: the indexes."""
    storage, shards = LocalStorage(folder), []
    common = {"meta": {}, "caption": None, "group": "", "quality": {}, "fingerprint": None, "content": ""}
    for start in range(0, len(samples), each):
        part = sorted(samples[start : start + each], key=lambda sample: sample["key"])
        files = {"png": Member("", 0, 7, 7)}
        rows = [Row(**{**common, "label": None, "source": "", "files": files} | sample) for sample in part]
        content = write_index(rows)
        name = blake3(content).hexdigest()
        shards.append(Shard(digest=name, samples=len(part), size=1, split=split, index=name))
        storage.put(shards[-1].index_key, content)
    books = Books(inputs=len(samples), written=len(samples))
    manifest = Manifest(
        number=0, parent=None, modality="image", settings="", plans=[], classes=[], books=books, shards=shards
    )
    commit(storage, manifest)
    return Dataset(storage, manifest)


@pytest.mark.parametrize("little", [False, True])
def test_differences_come_in_the_order_of_their_keys_however_many(
    little: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if little:
        monkeypatch.setattr(spill, "FEWER_ROWS", 64)
        monkeypatch.setattr(spill, "HELD_BYTES", 5000)
        monkeypatch.setattr(spill.Spill.__init__, "__kwdefaults__", {"bucket_bytes": 0})
    rng = random.Random(0)
    keys = [f"{rng.choice('abc')}/{i:04}" for i in range(1500)]
    old = {key: {"key": key, "label": rng.choice("xy")} for key in rng.sample(keys, 1000)}
    new = {key: dict(old.get(key, {"key": key, "label": "x"})) for key in rng.sample(keys, 1000)}
    for key in rng.sample(sorted(new), 300):
        new[key] |= {"label": "z", "meta": {"k": 1}}
    a, b = (snapshot(tmp_path / n, list(of.values()), 70) for n, of in (("a", old), ("b", new)))
    wanted = [Difference("removed", key) for key in old if key not in new]
    changed = [key for key in old if key in new and old[key] != new[key]]
    wanted += [Difference("changed", key, ("meta", "label")) for key in changed]
    wanted.sort(key=lambda found: found.key)
    wanted += [Difference("added", key) for key in sorted(new.keys() - old.keys())]
    assert min(Counter(found.what for found in wanted).values()) > 100
    assert list(difference(a, b)) == wanted
    assert list(difference(b, b)) == []


def test_a_shard_in_another_split_is_a_change(tmp_path: Path, capsys: Any) -> None:
    samples = [{"key": f"{i}"} for i in range(5)]
    snapshot(tmp_path / "a", samples, 2)
    snapshot(tmp_path / "b", samples, 2, split="val")
    assert commands.diff(str(tmp_path / "a"), str(tmp_path / "b")) == 1
    told = capsys.readouterr()
    assert told.out.splitlines() == [f"~ {i}  (split)" for i in range(5)]
    assert "5 changed" in told.err


PROGRAM = """
import sys, tracemalloc
from pathlib import Path
from jobs.heap import one_heap
one_heap()
import pyarrow as pa
from pipelines.shards import spill
from pipelines.shards.dataset import Dataset
from pipelines.shards.difference import difference
spill.FEWER_ROWS, spill.HELD_BYTES = 2048, 2**19
a, b = (Dataset.open(str(Path(sys.argv[1], name))) for name in "ab")
tracemalloc.start()
for place, found in enumerate(difference(a, b)):
    pass
assert place + 1 == 3 * a.manifest.samples // 2
print(tracemalloc.get_traced_memory()[1] + pa.default_memory_pool().max_memory())
"""


def test_memory_of_a_comparison_hardly_grows_with_the_samples(tmp_path: Path) -> None:
    """Four times the samples, half of them in both: what is held of them all would be four times as much."""
    peaks = []
    for rows in (8_000, 32_000):
        for name, first in (("a", 0), ("b", rows // 2)):
            samples = [{"key": f"photos/{i:08}", "label": name} for i in range(first, first + rows)]
            snapshot(tmp_path / f"{rows}" / name, samples, 250)
        command = [sys.executable, "-c", PROGRAM, str(tmp_path / f"{rows}")]
        peaks.append(int(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    few, many = peaks
    assert many < 2 * few, f"{few / 2**20:.1f} MiB of 8,000 samples, {many / 2**20:.1f} of 32,000"


def test_headers_and_padding_are_repaired_without_the_sources(
    damaged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.shards import repair as module

    monkeypatch.setattr(module, "build_unit", lambda *_: pytest.fail("nothing of a source is needed"))
    storage, dataset = LocalStorage(damaged), Dataset.open(str(damaged))
    [shard, *_] = dataset.manifest.shards
    path = damaged / shard.key
    content = bytearray(path.read_bytes())
    content[:BLOCK] = bytes(BLOCK)
    path.write_bytes(content)
    done = repair(storage, settings_of=lambda _: SETTINGS)
    assert (done.objects, done.left) == ([shard.key], [])


def test_what_cannot_be_proved_is_left_and_named(damaged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sources are gone: the shard is not replaced by what can still be built."""
    from pipelines.shards import pack

    def gone(*_: object, **__: object) -> None:
        raise FileNotFoundError("the source")

    monkeypatch.setattr(pack, "open_entry", gone)
    storage, dataset = LocalStorage(damaged), Dataset.open(str(damaged))
    [shard, *_] = dataset.manifest.shards
    (damaged / shard.key).write_bytes(b"stump")
    marks = [key for key in storage.list("runs/") if "/done/" in key]
    # The mark of that shard: of a whole one it is made anew.
    [mark] = [key for key in marks if shard.digest.encode() in storage.get(key)]
    (damaged / mark).unlink()
    done = repair(storage, settings_of=lambda _: SETTINGS)
    assert {problem.key for problem in done.left} >= {shard.key, mark}
    assert (damaged / shard.key).read_bytes() == b"stump"
    assert done.objects == []


def test_check_reports_a_damaged_manifest_as_a_problem(damaged: Path, capsys: Any) -> None:
    path = damaged / "manifest/000001.json"
    whole = path.read_bytes()
    for content in (b"{}", b"", b"[1]", b"\xff\xfe", whole[:-9], whole.replace(b'"', b"'")):
        path.write_bytes(content)
        with pytest.raises(SystemExit) as caught:
            main(["check", str(damaged), "--json", "--sample", "10%"])
        assert caught.value.code == 1
        report = json.loads(capsys.readouterr().out)
        assert not report["ok"]
        assert report["problems"][0].startswith("manifest/000001.json: ")


def test_the_books_are_compared_with_the_shards(damaged: Path) -> None:
    from pipelines.seal import seal, unseal

    path = damaged / "manifest/000001.json"
    head = unseal(path.read_bytes())
    head["books"] = {**head["books"], "quarantined": head["books"]["quarantined"] - 1}
    path.write_bytes(seal(head))
    assert find_problems(LocalStorage(damaged))[0]
