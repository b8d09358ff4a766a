"""What datasets have in common: held against a loop over all pairs."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import blake3
import pyarrow.parquet as pq
import pytest

from jobs import duplicates as command
from jobs import failures
from pipelines.graphs import duplicates as graph
from pipelines.graphs import exchange
from pipelines.shards.dataset import Dataset
from pipelines.shards.index import Row, write_index
from pipelines.shards.manifest import Books, Manifest, Shard, commit
from pipelines.shards.storage import open_storage
from pipelines.shards.tar import Member

pytestmark = pytest.mark.usefixtures("ray_cluster")
DISTANCE = 6
Sample = tuple[int, str]  # dataset, key


def digest(*values: object) -> str:
    found: str = blake3.blake3(repr(values).encode()).hexdigest()
    return found


def row(
    key: str, *, content: str, print_: int | None, files: dict[str, int], arrays: str | None = None
) -> Row:
    members = {ext: Member(f"{key}.{ext}", 512, size, size * 7 % 2**32) for ext, size in files.items()}
    members["meta.json"] = Member(f"{key}.meta.json", 0, 9, hash(key) % 2**32)  # never the same
    return Row(
        key=key, files=members, meta={}, label=None, caption=None, group=key, quality={}, fingerprint=print_,
        source=f"{key}.jpg", content=content, arrays=arrays,
    )  # fmt: skip


def dataset(
    folder: Path, rows: list[Row], per_shard: int = 60, modality: str = "image", **job: Any
) -> Dataset:
    storage, shards = open_storage(str(folder)), []
    for start in range(0, len(rows), per_shard):
        part = rows[start : start + per_shard]
        content = write_index(part)
        split = ("train", "val")[start // per_shard % 2]
        name = digest(str(folder), start)
        shard = Shard(
            digest=name, samples=len(part), size=1, split=split, index=blake3.blake3(content).hexdigest()
        )
        storage.put(shard.index_key, content)
        shards.append(shard)
    manifest = Manifest(
        number=0, parent=None, modality=modality, settings="", plans=[], classes=[],
        books=Books(inputs=len(rows), written=len(rows)), shards=shards, job=job,
    )  # fmt: skip
    commit(storage, manifest)
    return Dataset.open(str(folder))


def planted(seed: int, datasets: int, count: int) -> list[list[Row]]:
    """Copies, other files made of one source, the same pixels in another file, and chains of near prints."""
    draw = random.Random(seed)
    rows: list[list[Row]] = [[] for _ in range(datasets)]
    everyone: list[Row] = []
    for i in range(datasets * count):
        base = draw.choice(everyone) if everyone and draw.random() < 0.5 else None
        content, arrays, size = digest(i), digest("pixels", i), draw.randrange(1000, 9000)
        print_: int | None = draw.getrandbits(64)
        files = {"jpg": size}
        if base is not None:
            way = draw.randrange(4)
            old = {ext: member.size for ext, member in base.files.items() if ext != "meta.json"}
            if way == 0:  # the same
                content, arrays, print_, files = base.content, base.arrays or arrays, base.fingerprint, old
            elif way == 1:  # another piece of the same source
                content, files = base.content, {**old, "jpg": size}
            elif way == 2:  # the same pixels
                arrays = base.arrays or arrays
            elif base.fingerprint is not None:  # a few bits further
                print_ = base.fingerprint
                for bit in draw.sample(range(64), draw.randrange(0, 8)):
                    print_ ^= 1 << bit
        if draw.random() < 0.1:
            print_ = draw.choice([None, 0])
        told = arrays if draw.random() < 0.8 else None
        made = row(f"{i:05}", content=content, print_=print_, files=files, arrays=told)
        everyone.append(made)
        rows[draw.randrange(datasets)].append(made)
    return rows


def alike(a: Row, b: Row) -> str:
    """The first reason, or nothing."""
    same = {ext: (m.size, m.crc32c) for ext, m in a.files.items() if ext != "meta.json"} == {
        ext: (m.size, m.crc32c) for ext, m in b.files.items() if ext != "meta.json"
    }
    if a.content == b.content and same:
        return "same-bytes"
    if a.arrays is not None and a.arrays == b.arrays:
        return "same-content"
    return "near-duplicate" if bits(a, b) <= DISTANCE else ""


def bits(a: Row, b: Row) -> int:
    """In which the fingerprints differ; more than there are where one has none."""
    return (a.fingerprint ^ b.fingerprint).bit_count() if a.fingerprint and b.fingerprint else 65


def pairs(rows: list[list[Row]]) -> Iterator[tuple[Sample, Sample, str]]:
    """Of all pairs those that are alike, the preferred one first."""
    every = [(i, r) for i, part in enumerate(rows) for r in part]
    every.sort(key=lambda one: (one[0], -sum(m.size for m in one[1].files.values()), one[1].key))
    for n, (i, a) in enumerate(every):
        for j, b in every[n + 1 :]:
            if reason := alike(a, b):
                yield (i, a.key), (j, b.key), reason


def test_duplicates_are_those_of_a_loop_over_all_pairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = planted(3, 3, 120)
    datasets = [dataset(tmp_path / str(i), part) for i, part in enumerate(rows)]
    monkeypatch.setattr(exchange, "PART_ROWS", 60)
    found = graph.duplicates(datasets, DISTANCE)
    told: dict[Sample, dict[str, Any]] = {(r["dataset"], r["key"]): r for r in found.to_pylist()}
    assert len(told) == found.num_rows, "a sample is told once"
    assert list(told) == sorted(told)
    wanted = list(pairs(rows))
    first: dict[Sample, set[str]] = {}
    for _, later, reason in wanted:
        first.setdefault(later, set()).add(reason)
    for reason in ("same-bytes", "same-content"):  # whoever comes second is told
        better = {"same-bytes"} if reason == "same-content" else set()
        want = {sample for sample, reasons in first.items() if reason in reasons and not reasons & better}
        assert {sample for sample, r in told.items() if r["reason"] == reason} == want
    # Of two that are alike at most one stays, and nobody goes without one that is like it.
    assert all(a in told or b in told for a, b, _ in wanted)
    reasons = {frozenset(pair[:2]): pair[2] for pair in wanted}
    every = {(i, r.key): r for i, part in enumerate(rows) for r in part}
    for sample, r in told.items():
        of = (r["of_dataset"], r["of_key"])
        mine, theirs = (every[which] for which in (sample, of))
        if r["reason"] == "same-bytes":
            assert reasons[frozenset([sample, of])] == "same-bytes"
        if r["reason"] == "same-content":
            assert mine.arrays == theirs.arrays is not None
        if r["reason"] == "near-duplicate":
            assert r["distance"] == bits(mine, theirs) <= DISTANCE
            assert of not in told or told[of]["reason"] != "near-duplicate"
    assert {"same-bytes", "same-content", "near-duplicate"} == {r["reason"] for r in told.values()}


def test_a_command_says_what_a_test_set_has_of_a_training_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = row("a/1", content=digest(1), print_=2**20 + 1, files={"jpg": 5})
    near = row("b/1", content=digest(2), print_=2**20 + 2, files={"jpg": 4})
    other = row("b/2", content=digest(3), print_=2**60 - 1, files={"jpg": 5})
    copy = row("b/3", content=digest(1), print_=2**20 + 1, files={"jpg": 5})
    places = [str(tmp_path / name) for name in "ab"]
    for place, rows in zip(places, ([one], [near, other, copy]), strict=True):
        dataset(Path(place), rows, decode=place == places[0])
    assert command.run(places, distance=DISTANCE, output=tmp_path / "found.parquet") == command.FOUND
    said, warned = capsys.readouterr()
    assert warned.splitlines() == [
        f"{places[1]} has no fingerprints (decode: false): only same bytes are found there"
    ]
    assert f"{places[1]}, train, 3 samples: 1 same-bytes, 1 near-duplicate in {places[0]}, train" in said
    assert "2 of 4 samples are there already" in said
    told = pq.read_table(tmp_path / "found.parquet").select(["key", "of_key", "reason", "distance"])
    assert told.to_pylist() == [
        {"key": "b/1", "of_key": "a/1", "reason": "near-duplicate", "distance": 2},
        {"key": "b/3", "of_key": "a/1", "reason": "same-bytes", "distance": 0},
    ]


def test_fingerprints_of_two_kinds_of_data_are_not_compared(tmp_path: Path) -> None:
    sample = row("1", content=digest(1), print_=5, files={"jpg": 5})
    both = [dataset(tmp_path / kind, [sample], modality=kind) for kind in ("image", "video")]
    with pytest.raises(ValueError, match="fingerprints of image and video do not compare"):
        graph.duplicates(both, 1)
    assert graph.duplicates(both).num_rows == 1


def test_a_damaged_index_is_named_and_nothing_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = dataset(tmp_path, [row("1", content=digest(1), print_=5, files={"jpg": 5})])
    [shard] = damaged.manifest.shards
    damaged.storage.replace(shard.index_key, write_index([]))
    with pytest.raises(Exception, match="run rayloom repair") as raised:
        graph.duplicates([damaged])
    assert failures.report(raised.value) == failures.STORAGE
    [said] = capsys.readouterr().err.splitlines()
    assert said.startswith(shard.index_key)
    assert said.endswith("run rayloom repair")
