"""Which shards a share of them is."""

import re
from pathlib import Path

import pytest

from jobs import dataset as commands
from pipelines.shards.check import drawn_of
from pipelines.shards.dataset import Dataset
from pipelines.shards.manifest import Shard

SHARDS = [Shard(digest=f"{i:064}", samples=1, size=1, split="train", index="") for i in range(10)]


@pytest.mark.parametrize(
    ("share", "count"), [(0, 0), (0.01, 1), (0.14, 1), (0.16, 2), (0.25, 3), (0.5, 5), (0.7, 7), (1, 10)]
)
def test_a_share_is_the_nearest_number_and_one_at_least(share: float, count: int) -> None:
    assert {len(drawn_of(SHARDS, share, seed)) for seed in range(20)} == {count}
    assert not drawn_of([], share, 0)


def test_every_shard_is_drawn_by_some_seed_and_the_same_ones_by_the_same() -> None:
    drawn = [drawn_of(SHARDS, 0.2, seed) for seed in range(100)]
    assert set().union(*drawn) == {shard.digest for shard in SHARDS}
    assert drawn == [drawn_of(SHARDS[::-1], 0.2, seed) for seed in range(100)]


def test_damage_is_found_by_the_seed_that_is_printed_again(
    damaged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards = Dataset.open(str(damaged)).manifest.shards
    path = damaged / shards[1].key
    content = bytearray(path.read_bytes())
    content[700] ^= 1
    path.write_bytes(content)
    codes = dict[str, int]()
    for _ in range(200):
        code = commands.check(str(damaged), sample=0.5)
        [seed] = re.findall(r"--seed (\d+)", capsys.readouterr().out)
        codes[seed] = code
        if {0, 1} <= set(codes.values()):
            break
    assert {0, 1} == set(codes.values()), "200 draws of a half, and all of them alike"
    for seed, code in codes.items():
        assert commands.check(str(damaged), sample=0.5, seed=int(seed)) == code
    assert commands.check(str(damaged)) == 1
