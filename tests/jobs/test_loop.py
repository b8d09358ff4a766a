"""The loop of one training process: what it resumes, measures, keeps, stops at and writes down."""

import json
import logging
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs import checkpoint, loop

Make = Callable[..., loop.Run]
ROOT = Path(__file__).parents[2]
EVERYTHING: dict[str, Any] = {
    "average": 0.9, "layer_decay": 0.8, "optimizer": "lion", "schedule": "wsd", "accumulate": 2,
    "label_smoothing": 0.1, "augment": ["flip"], "validation": {"every": 2},
}  # fmt: skip


@pytest.fixture(scope="module")
def make(config_of: Callable[..., dict[str, Any]]) -> Make:
    return lambda output, **changes: loop.Run(config_of(output, **changes))


@pytest.fixture(scope="module")
def whole(make: Make, tmp_path_factory: pytest.TempPathFactory) -> loop.Run:
    """Six steps with every option, not interrupted."""
    run = make(tmp_path_factory.mktemp("whole") / "run", **EVERYTHING)
    run.work()
    return run


def records(run: loop.Run) -> list[dict[str, Any]]:
    assert run.log.path is not None
    return [json.loads(line) for line in run.log.path.read_text().splitlines()]


def losses(run: loop.Run) -> list[tuple[int, float]]:
    return [(record["step"], record["loss"]) for record in records(run) if "loss" in record]


def test_with_every_option_a_run_that_was_cut_off_ends_like_one_that_was_not(
    make: Make, whole: loop.Run, tmp_path: Path
) -> None:
    shutil.copytree(whole.job.output, copy := tmp_path / "cut")
    for step in checkpoint.steps(whole.storage):
        if step > 3:
            shutil.rmtree(copy / f"checkpoints/{step:08}")
    cut = make(copy, **EVERYTHING)
    assert cut.step == 3
    cut.work()
    assert losses(cut) == losses(whole)
    ends = [checkpoint.newest(run.storage) for run in (whole, cut)]
    for name in ("model", "average"):
        first, second = (getattr(end, name) for end in ends)
        assert first
        assert all(bool((second[k] == v).all()) for k, v in first.items())
    assert (cut.best, cut.stale, cut.summary) == (whole.best, whole.stale, whole.summary)


def test_the_average_is_stored_beside_the_weights_as_they_were_trained(whole: loop.Run) -> None:
    found = checkpoint.newest(whole.storage)
    assert found is not None
    assert set(found.average) == {name for name, _ in whole.plain.named_parameters()}
    assert any(bool((found.model[k] != v).any()) for k, v in found.average.items())
    assert all(bool((found.model[k] == v).all()) for k, v in whole.plain.state_dict().items())


def test_a_run_that_goes_on_takes_up_the_average_that_was_stored(
    make: Make, whole: loop.Run, tmp_path: Path
) -> None:
    shutil.copytree(whole.job.output, copy := tmp_path / "copy")
    stored = checkpoint.newest(whole.storage)
    again = make(copy, **EVERYTHING)
    assert stored is not None
    assert again.average is not None
    assert again.average.weights.keys() == stored.average.keys()
    assert all(bool((again.average.weights[k] == v).all()) for k, v in stored.average.items())
    assert any(bool((again.average.weights[k] != stored.model[k]).any()) for k in stored.average)


def test_a_step_in_two_passes_is_a_step_in_one(make: Make, tmp_path: Path) -> None:
    one, two = (make(tmp_path / str(n), accumulate=n, steps=3) for n in (1, 2))
    one.work()
    two.work()
    for (_, a), (_, b) in zip(losses(one), losses(two), strict=True):
        assert a == pytest.approx(b, rel=1e-5)


def test_a_run_stops_when_nothing_gets_better_and_keeps_its_best(make: Make, tmp_path: Path) -> None:
    validation = {"every": 1, "patience": 2}
    run = make(tmp_path / "run", learning_rate=1e-12, steps=20, keep=1, validation=validation)
    run.work()
    assert run.stopped
    assert run.best is not None
    assert (run.best["step"], run.step) == (1, 3)  # nothing is learned at this rate
    assert checkpoint.steps(run.storage) == [3, 1]
    found = checkpoint.best(run.storage)
    assert found is not None
    assert found.step == 1
    again = make(tmp_path / "run", learning_rate=1e-12, steps=20, keep=1, validation=validation)
    again.work()
    assert again.step == 3


def test_old_checkpoints_go_and_a_damaged_newest_one_falls_back(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    how: dict[str, Any] = {"checkpoint_every": 1, "keep": 2, "validation": {"split": "test"}}
    run = make(tmp_path / "run", **how)
    run.work()
    assert checkpoint.steps(run.storage) == [6, 5]
    with pytest.raises(LookupError, match="no best checkpoint"):
        checkpoint.best(run.storage)
    [weights] = (tmp_path / "run/checkpoints/00000006").glob("*-model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1])
    with caplog.at_level(logging.WARNING):
        again = make(tmp_path / "run", **how)
    assert again.step == 5
    assert "checkpoint 6" in caplog.text
    again.work()
    assert losses(again) == losses(run)


def test_a_run_on_a_mixture_resumes_like_any_other(make: Make, tmp_path: Path) -> None:
    more = [{"dataset": make(tmp_path / "probe", steps=1).job.dataset, "weight": 2.0}]
    whole, cut = make(tmp_path / "whole", more=more), make(tmp_path / "cut", more=more, keep=None)
    whole.work()
    cut.work()
    shutil.rmtree(tmp_path / "cut/checkpoints/00000006")
    resumed = make(tmp_path / "cut", more=more, keep=None)
    assert resumed.step == 3
    resumed.work()
    assert losses(resumed) == losses(whole)


def test_the_log_says_who_runs_how_fast_and_how_long(whole: loop.Run) -> None:
    first, *rest = records(whole)
    assert first["start"]["workers"] == 1
    step = next(record for record in rest if record["step"] == 5 and "loss" in record)
    assert step["eta_s"] > 0
    assert step["memory_bytes"] > 2**20
    assert 0 <= step["data_wait"] <= 1
    assert step["tokens_s"] / step["samples_s"] == pytest.approx(36)  # 24 pixels in patches of 4


def start(run: loop.Run) -> subprocess.Popen[bytes]:
    """The run of a config, by another process."""
    code = "import json, sys\nfrom jobs.loop import Run\nRun(json.loads(sys.argv[1])).work()"
    return subprocess.Popen([sys.executable, "-c", code, json.dumps(run.config)], cwd=ROOT)


def test_a_run_that_was_killed_in_the_middle_of_an_epoch_ends_like_one_that_was_not(
    make: Make, tmp_path: Path
) -> None:
    how: dict[str, Any] = {
        "steps": 200, "warmup_steps": 0, "schedule": "constant", "checkpoint_every": 3, "keep": 2,
        "model": {"name": "window_nano", "options": {"drop_path": 0.3}},
    }  # fmt: skip
    cut = make(tmp_path / "cut", **how)
    process = start(cut)
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if cut.log.path is not None and cut.log.path.exists() and len(losses(cut)) >= 8:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    resumed = make(tmp_path / "cut", **how)
    at = resumed.step
    assert 3 <= at < 200
    resumed.job = resumed.job.model_copy(update={"steps": at + 7})
    whole = make(tmp_path / "whole", **how)
    whole.job = whole.job.model_copy(update={"steps": at + 7})
    for run in (resumed, whole):
        run.work()
    assert losses(resumed) == losses(whole)
    assert [step for step, _ in losses(resumed)] == list(range(1, at + 8))


def test_mistakes_in_steps_and_metrics_name_what_there_is(make: Make, tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="image has no step 'flop'"):
        make(tmp_path / "a", augment=["flop"])
    with pytest.raises(LookupError, match="'kappa' is not measured; there are accuracy"):
        make(tmp_path / "b", steps=1, validation={"metric": "kappa"}).work()
