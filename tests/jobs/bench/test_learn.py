import pytest
import torch
from torch import Tensor

from jobs.bench.learn import TRIALS, ahead
from jobs.bench.linear import examples, logistic, narrowed, ridge
from models.presets.base import systems


def cube(size: int = 5) -> dict[str, Tensor]:
    x = torch.arange(2 * 3 * size * size, dtype=torch.float32).view(2, 3, size, size)
    return {"cube": x, "segmentation": torch.arange(2 * size * size).view(2, size, size)}


def test_a_linear_map_of_pixels_may_see_those_around_them() -> None:
    batch = cube()
    plain, truth = examples("hyperspectral", "segmentation", batch)
    wide, same = examples("hyperspectral", "segmentation", batch, 1)
    assert torch.equal(truth, same)
    assert torch.equal(truth, torch.arange(50))
    windows = wide.view(2, 5, 5, 3, 3, 3)  # sample, place, band, offset
    assert torch.equal(windows[..., 1, 1].flatten(0, 2), plain)
    x = batch["cube"]
    assert torch.equal(windows[1, 2, 3, 2], x[1, 2, 1:4, 2:5])
    assert torch.equal(windows[0, 0, 0, 0, 0], x[0, 0, 0, [0, 0, 1]])  # beyond the edge: the edge again


def test_more_features_than_samples_are_fitted_in_the_span_of_the_samples() -> None:
    draw = torch.Generator().manual_seed(0)
    x, seen, y = torch.randn(30, 90, generator=draw), torch.randn(9, 90, generator=draw), torch.arange(30) % 3
    few, these = narrowed(x, seen)
    assert few.shape == (30, 30)
    for (w, b), (v, c) in zip(logistic(x, y, (0.1, 1.0)), logistic(few, y, (0.1, 1.0)), strict=True):
        torch.testing.assert_close(these @ v + c, seen @ w + b, rtol=1e-3, atol=1e-3)
    truth = x[:, :3] - x[:, 3:6]
    (w, b), (v, c) = ridge(x, truth, 0.1), ridge(few, truth, 0.1)
    torch.testing.assert_close(these @ v + c, seen @ w + b, rtol=1e-4, atol=1e-4)
    assert narrowed(x.mT, x.mT)[1].shape == (90, 30)


@pytest.mark.parametrize(
    ("values", "is_ahead"),
    [([0.71, 0.70, 0.69], True), ([0.71, 0.51, 0.61], False), ([0.4] * 3, False), ([-14, -15, -16.5], True)],
)
def test_ahead_means_by_more_than_seeds_lie_apart(values: list[float], is_ahead: bool) -> None:
    assert ahead(values, -19.2 if values[0] < 0 else 0.5) is is_ahead


def test_every_trial_holds_out_what_no_setting_was_chosen_on() -> None:
    for kind, trial in TRIALS.items():
        shares = {part.partition("=")[0] for part in trial.ingest}
        assert {"split.val", "split.test"} <= shares, kind
        assert len(trial.models) >= 2
        assert all(any(name.startswith(system) for system in systems()) for name in trial.models)
