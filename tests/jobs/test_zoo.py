"""The zoo says what the code says."""

from pathlib import Path

import pytest
import torch

from jobs import zoo
from jobs.bench.mixers import bench, peak_bytes, plot, table
from models.mixers.base import MIXERS

ROOT = Path(__file__).parents[2]


def test_the_page_is_what_the_code_says() -> None:
    page = (ROOT / "docs" / "zoo.md").read_text(encoding="utf-8")
    assert page == zoo.document(), "write it anew with `rayloom zoo docs`"


@pytest.mark.parametrize("short", zoo.systems())
def test_every_system_is_found_by_its_short_name(short: str) -> None:
    row = zoo.show(short)
    assert row["system"] == short
    assert row["title"]
    assert "arXiv:" in row["paper"] or "doi:" in row["paper"], row["paper"]
    assert row["models"]
    assert (ROOT / row["proof"]).is_file()


@pytest.mark.parametrize("name", MIXERS.names())
def test_every_mixer_says_what_it_does_and_costs(name: str) -> None:
    row = zoo.show_mixer(name)
    assert row["formula"]
    assert "O(" in row["cost"] or row["cost"] == "nothing", row["cost"]
    assert row["paper"]


def test_an_unknown_name_suggests_the_near_one() -> None:
    with pytest.raises(LookupError, match=r"no system, model or mixer 'swim'.*'swin'"):
        zoo.show("swim")


def test_the_bench_measures_mixers_and_names_their_backends(tmp_path: Path) -> None:
    result = bench(["window", "attention"], torch.device("cpu"), sides=(8, 16))
    assert [(row["mixer"], row["tokens"]) for row in result["rows"]] == [
        ("window", 64), ("window", 256), ("attention", 64), ("attention", 256),
    ]  # fmt: skip
    window, attention = result["rows"][1], result["rows"][3]
    assert "local_attention:windows" in window["backends"]
    assert attention["backends"] == ["attention:sdpa"]
    assert attention["gflop"] == pytest.approx((4 * 2 * 256 * 64**2 + 4 * 256**2 * 64) / 1e9)
    assert 0 < attention["share_of_bound"] < 2
    assert "window" in table(result)
    plot(result, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_memory_is_the_most_that_was_held_at_once() -> None:
    def twice_in_turn() -> None:
        for _ in range(2):
            torch.ones(1 << 20)

    assert peak_bytes(twice_in_turn, torch.device("cpu")) == pytest.approx(4 << 20, rel=0.01)
