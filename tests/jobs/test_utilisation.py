"""What a step computes, over what its device could."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from jobs.loop import Run
from jobs.meters import Meter
from jobs.utilisation import peak_flops, sample_flops
from models.ops.flops import count_flops

Config = Callable[..., dict[str, Any]]
CPU = torch.device("cpu")


def test_a_sample_costs_its_forward_pass_and_twice_that_but_for_gradients_of_the_data(
    config_of: Config, tmp_path: Path
) -> None:
    run = Run(config_of(tmp_path / "run", recompute=True))
    batch = next(run.feed.stream())
    forward = count_flops(lambda: run.plain.answer({"image": batch["image"]})) / 4
    weights = sum(p.numel() for p in run.plain.parameters())
    assert forward > 2 * weights  # every weight is used, most of them at many places
    assert 2.7 * forward < sample_flops(run.spec, batch) < 3 * forward


def test_a_device_that_no_table_knows_is_measured() -> None:
    peak, source = peak_flops(CPU, "fp32")
    assert source == "measured"
    assert peak > 1e8


def test_utilisation_is_flops_over_time_and_peak(config_of: Config, tmp_path: Path) -> None:
    run = Run(config_of(tmp_path / "run"))
    batch = next(run.feed.stream())
    meter = Meter(run.plain, workers=2, device=CPU)
    meter.know(run.spec, batch, "fp32")
    assert meter.flops == sample_flops(run.spec, batch)
    meter.peak = 1e9
    meter.begin()
    meter.data()
    facts = meter.end(samples=8, left=0)
    assert facts["mfu"] == pytest.approx(meter.flops * facts["samples_s"] / 2e9)


def test_a_model_that_cannot_be_counted_still_trains(
    config_of: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = Run(config_of(tmp_path / "run"))
    batch = next(run.feed.stream())
    wrong = {**batch, "label": batch["label"].float()}  # torch has no kernel for it
    run.meter.know(run.spec, wrong, "fp32")
    assert "could not be counted" in caplog.text
    run.work()
    assert run.step == 6
