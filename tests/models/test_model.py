"""Whole models: shapes, masks, independence of samples, learning."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.testing import assert_close

from models import create_model, create_task

NANO = ["window_nano", "video_nano", "points_nano", "spectral_nano", "light_nano"]


def given(name: str, b: int = 4) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw)

    match name:
        case "window_nano":
            return {"x": randn(b, 3, 30, 41)}
        case "video_nano":
            return {"x": randn(b, 3, 5, 20, 32)}
        case "light_nano":
            return {"x": randn(b, 3, 4, 32, 32)}
        case "points_nano":
            points = randn(b, 100, 3)
            return {"x": points, "coords": points}
        case _:
            return {"x": randn(b, 13, 9, 16), "wavelengths": torch.linspace(400, 2500, 13).expand(b, -1)}


def dense_shape(name: str, x: Tensor) -> tuple[int, ...]:
    return tuple(x.shape[:2]) if name == "points_nano" else (x.shape[0], *x.shape[2:])


@pytest.mark.parametrize("name", NANO)
def test_every_task_answers_for_every_kind_of_data(name: str) -> None:
    batch = given(name)
    x, inputs = batch["x"], {field: field for field in batch}

    def task(kind: str, **options: Any) -> dict[str, Tensor]:
        return create_task(kind, model=name, inputs=inputs, num_outputs=3, **options).eval().predict(batch)

    classes = task("classification")
    assert classes["label"].shape == (4,)
    assert_close(classes["probabilities"].sum(-1), torch.ones(4))
    assert task("regression")["value"].shape == ((4, 4, 3) if name == "light_nano" else (4, 3))
    places = task("segmentation")["segmentation"]
    assert places.dtype == torch.int64
    assert places.shape == dense_shape(name, x)
    masked = task("masked")
    assert masked["masked_mse"].shape == (4,)
    assert masked["reconstruction"].shape == x.shape


@pytest.mark.parametrize("name", NANO)
def test_samples_are_independent(name: str) -> None:
    torch.manual_seed(0)
    batch, model = given(name), create_model(name).eval()
    alone = model(**{field: value[1:2] for field, value in batch.items()})
    assert_close(model(**batch)[1:2], alone, atol=1e-5, rtol=1e-5)


def test_padded_clouds_equal_short_ones() -> None:
    torch.manual_seed(0)
    for head in ("classification", "segmentation"):
        model = create_model("points_nano", head=head).eval()
        points = torch.randn(2, 100, 3)
        mask = torch.arange(100).expand(2, -1) < 71
        padded = model(points, coords=points, mask=mask)
        short = model(points[:, :71], coords=points[:, :71])
        assert_close(padded if head == "classification" else padded[:, :71], short, atol=1e-5, rtol=1e-5)


def test_the_order_of_points_does_not_matter() -> None:
    torch.manual_seed(0)
    model, points, order = create_model("points_nano").eval(), torch.randn(2, 100, 3), torch.randperm(100)
    mixed = points[:, order]
    assert_close(model(points, coords=points), model(mixed, coords=mixed), atol=1e-5, rtol=1e-5)


def test_a_cube_may_have_any_number_of_bands() -> None:
    model = create_model("spectral_nano")
    for bands in (1, 4, 7, 120):
        nm = torch.linspace(400, 2500, bands).expand(2, -1)
        assert model(torch.randn(2, bands, 8, 8), wavelengths=nm).shape == (2, 10)


@pytest.mark.parametrize(("name", "smaller"), [("points_nano", {}), ("spectral_nano", {"depth": 1})])
@pytest.mark.compile
def test_compiles_to_one_graph(name: str, smaller: dict[str, int]) -> None:
    torch.manual_seed(0)
    batch, model = given(name, b=2), create_model(name, **smaller).eval()
    whole = torch.compile(model, backend="eager", fullgraph=True)
    assert_close(whole(**batch), model(**batch))


@pytest.mark.parametrize("name", NANO)
def test_overfits_a_tiny_batch(name: str) -> None:
    torch.manual_seed(0)
    batch = given(name)
    kind = "regression" if name == "light_nano" else "classification"
    task = create_task(
        kind, model=name, inputs={f: f for f in batch}, num_outputs=3 if kind == "regression" else 4
    )
    batch["label"] = torch.arange(4)
    batch["light"] = normalize(torch.randn(4, 4, 3), dim=-1)
    optimizer = torch.optim.AdamW(task.parameters(), lr=1e-3)
    losses = []
    for _ in range(40):
        loss = task(batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 5


@pytest.mark.parametrize("name", NANO)
def test_every_parameter_of_a_task_gets_a_gradient(name: str) -> None:
    torch.manual_seed(0)
    batch = given(name)
    for kind in ("classification", "segmentation", "masked"):
        task = create_task(kind, model=name, inputs={f: f for f in batch}, num_outputs=3)
        task(batch)["prediction"].square().sum().backward()
        assert not [n for n, p in task.named_parameters() if p.grad is None or not p.grad.any()], kind
