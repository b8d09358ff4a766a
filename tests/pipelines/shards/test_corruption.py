"""Hundreds of ways to damage a finished dataset: every one is noticed, and repaired to the same bytes."""

import random
import re
from collections import Counter
from collections.abc import Callable
from itertools import product
from pathlib import Path

import blake3
import pytest

from jobs.chaos.memo import Memo
from jobs.chaos.world import Chances, MemoryStorage, World
from jobs.config.schema import IngestJob
from jobs.storage import settings_of
from pipelines.shards.check import find_problems
from pipelines.shards.index import Row, write_index
from pipelines.shards.manifest import Books, Manifest, Shard, commit, load
from pipelines.shards.repair import repair
from pipelines.shards.storage import LocalStorage, open_storage
from pipelines.shards.tar import Member, TarWriter

# Every file of a dataset by what it is, as a real run leaves it; no other name may be there.
KINDS = {
    "head": r"manifest/\d{6}\.json",
    "shards of a snapshot": r"manifest/\d{6}-\w{16}\.parquet",
    "shard": r"shards/\w{64}\.tar",
    "index": r"index/\w{64}\.parquet",
    "quarantine of a plan": r"quarantine/\w+/survey-\d{6}\.parquet",
    "quarantine of a unit": r"quarantine/\w+/\d{6}-\w{16}\.parquet",
    "ids": r"runs/\w+/ids/\d{6}\.parquet",
    "listing": r"runs/\w+/listing/\d{6}\.parquet",
    "survey": r"runs/\w+/survey/\d{6}\.parquet",
    "record": r"runs/\w+/planned\.json",
    "plan": r"runs/\w+/plan\.json",
    "units": r"runs/\w+/units\.parquet",
    "unit": r"runs/\w+/units/\d{6}\.parquet",
    "clusters": r"runs/\w+/clusters/\d{6}\.parquet",
    "mark": r"runs/\w+/done/\d{6}\.json",
    "copy of a head": r"runs/\w+/head\.json",
}
LOGS = ("runs/progress.jsonl",)  # what a run told its user: nobody reads it again
ONLY = {"surveyed": {"clusters", "quarantine of a plan"}, "plain": {"quarantine of a unit"}}


def flip_bit(content: bytes, rng: random.Random, alike: list[bytes]) -> bytes | None:
    changed = bytearray(content)
    changed[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut(content: bytes, rng: random.Random, alike: list[bytes]) -> bytes | None:
    return content[: rng.randrange(len(content))]


def add(content: bytes, rng: random.Random, alike: list[bytes]) -> bytes | None:
    return content + rng.randbytes(rng.choice((1, 512, 1024)))


def zero(content: bytes, rng: random.Random, alike: list[bytes]) -> bytes | None:
    start = rng.randrange(len(content) // 2)
    end = min(start + rng.choice((64, 512, 4096)), len(content))
    if not any(content[start:end]):
        start, end = 0, len(content) // 2
    return content[:start] + bytes(end - start) + content[end:]


def empty(content: bytes, rng: random.Random, alike: list[bytes]) -> bytes | None:
    return b""


def lose(content: bytes, rng: random.Random, alike: list[bytes]) -> bytes | None:
    return None


def swap(content: bytes, rng: random.Random, alike: list[bytes]) -> bytes | None:
    """Another intact object of its kind under its name."""
    others = [other for other in alike if other != content]
    return rng.choice(others) if others else None


def turn(content: bytes, rng: random.Random, alike: list[bytes]) -> bytes | None:
    """Two halves the wrong way round: members of a tar in each other's place."""
    half = len(content) // 2 // 512 * 512 or len(content) // 2
    turned = content[half:] + content[:half]
    return turned if turned != content else content[:-1]


DAMAGES: list[Callable[[bytes, random.Random, list[bytes]], bytes | None]] = [
    flip_bit, cut, swap, lose, zero, flip_bit, turn, add, empty, flip_bit, flip_bit,
]  # fmt: skip


def kind_of(key: str) -> str:
    [kind] = [kind for kind, pattern in KINDS.items() if re.fullmatch(pattern, key)]
    return kind


@pytest.fixture(params=["surveyed", "plain"])
def world(
    request: pytest.FixtureRequest,
    built: dict[str, IngestJob],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> World:
    """One of them in memory."""
    monkeypatch.setenv("RAYLOOM_SANDBOX", "0")
    world, storage = World(0, Chances(), tmp_path), open_storage(built[request.param].output)
    world.objects = {key: (storage.get(key), 0.0) for key in storage.list("") if key not in LOGS}
    absent = set().union(*ONLY.values()) - ONLY[request.param]
    assert {kind_of(key) for key in world.objects} == KINDS.keys() - absent
    return world


@pytest.mark.ray
def test_every_damage_is_noticed_and_repaired(world: World, tmp_path: Path) -> None:
    storage, rng = MemoryStorage(world), random.Random(0)
    want = load(storage).digest
    golden = dict(world.objects)
    kinds = Counter[tuple[str, str]]()
    (tars := tmp_path / "tars").mkdir()
    with Memo(tars)():  # pure functions of content remember their results; no file is read twice
        assert find_problems(storage)[0] == []
        for case, (damage, key) in enumerate(product(DAMAGES, golden)):
            if (key, damage) == ("manifest/000001.json", lose):
                continue  # then the snapshot is not committed yet: see below
            folder, ending = key.split("/")[0], key.rpartition(".")[2]
            alike = [golden[k][0] for k in golden if k.startswith(f"{folder}/") and k.endswith(ending)]
            changed = damage(golden[key][0], rng, alike)
            told = f"case {case}: {damage.__name__} of {key}"
            assert changed != golden[key][0], told
            del world.objects[key]
            if changed is not None:
                world.objects[key] = (changed, 0.0)
            assert find_problems(storage)[0], f"{told} was not noticed"
            done = repair(storage, settings_of=settings_of)
            assert done.left == [], f"{told} was not repaired: {done.left}"
            assert done.digest == want
            assert {k: v[0] for k, v in world.objects.items()} == {k: v[0] for k, v in golden.items()}, told
            kinds[damage.__name__, kind_of(key)] += 1
    assert sum(kinds.values()) >= 400
    assert kinds.keys() == {(damage.__name__, kind_of(key)) for damage in DAMAGES for key in golden}


def test_a_snapshot_whose_head_is_gone_is_as_before_its_commit(world: World) -> None:
    """Nothing else can be known of it; the same job run again commits it again."""
    before, storage = load(MemoryStorage(world), 0).digest, MemoryStorage(world)
    del world.objects["manifest/000001.json"]
    assert load(storage).digest == before
    assert find_problems(storage)[0] == []


def test_a_lie_with_a_good_seal_is_noticed(world: World) -> None:
    """Somebody who knows the format, but changes one thing alone."""
    from pipelines.seal import seal, unseal

    storage = MemoryStorage(world)
    head = unseal(world.objects["manifest/000001.json"][0])
    for name, value in (("parent", "0" * 64), ("number", 7), ("classes", ["x"]), ("digest", "0" * 64)):
        world.objects["manifest/000001.json"] = (seal({**head, name: value}), 0.0)
        assert find_problems(storage)[0], name
    for missing in ("books", "plans", "shards"):
        world.objects["manifest/000001.json"] = (seal({k: v for k, v in head.items() if k != missing}), 0.0)
        assert find_problems(storage)[0], missing


def test_checksums_that_were_wrong_from_the_start_are_noticed_and_named(tmp_path: Path) -> None:
    """As a builder with bad memory writes them: every digest fits, and no reader would take the samples."""
    storage, rows = LocalStorage(tmp_path), []
    with storage.staging() as folder, (folder / "tar").open("wb") as file:
        tar = TarWriter(file)
        for key in ("a", "b", "c"):
            place = tar.add(f"{key}.jpg", key.encode() * 700)
            rows.append(row(key, place._replace(crc32c=place.crc32c ^ 1)))
        digest = tar.finish()
        index = write_index(rows)
        shard = Shard(
            digest=digest, samples=3, size=tar.size, split="train", index=blake3.blake3(index).hexdigest()
        )
        file.flush()
        storage.put(shard.key, folder / "tar")
    storage.put(shard.index_key, index)
    books = Books(inputs=3, written=3)
    commit(
        storage,
        Manifest(
            number=0, parent=None, modality="image", settings="", plans=[], classes=[], books=books,
            shards=[shard],
        ),
    )  # fmt: skip
    problems, _ = find_problems(storage)
    assert [p.detail for p in problems] == [f"{key}.jpg (sample {key}) is damaged" for key in ("a", "b", "c")]


def row(key: str, place: Member) -> Row:
    return Row(
        key=key, files={"jpg": place}, meta={}, label=None, caption=None, group=key, quality={},
        fingerprint=None, source=key, content="",
    )  # fmt: skip
