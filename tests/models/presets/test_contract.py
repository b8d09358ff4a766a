"""Every published system has a proof, and a small model that trains."""

import importlib
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from models import create_model
from models.presets.base import families, presets, resolve

SYSTEMS = [f for f in families() if hasattr(importlib.import_module(f"models.presets.{f}"), "PART")]
NANO = [f"{system}_nano" for system in SYSTEMS]
SIDES = {"image": (50, 67), "video": (4, 33, 40), "hyperspectral": (17, 22), "lighting": (4, 33, 40)}


def given(name: str, b: int = 2) -> dict[str, Tensor]:
    """A batch of the preset's kind of data, of a size that no patch or window divides."""
    draw, spec = torch.Generator().manual_seed(0), resolve(name)
    if spec["modality"] == "pointcloud":
        coords = torch.rand(b, 101, 3, generator=draw)
        return {"x": coords[..., : spec["in_chans"]], "coords": coords}
    channels = 13 if spec["modality"] == "hyperspectral" and spec["in_chans"] == 1 else spec["in_chans"]
    batch = {"x": torch.randn(b, channels, *SIDES[spec["modality"]], generator=draw)}
    if spec["modality"] == "hyperspectral":
        batch["wavelengths"] = torch.linspace(400, 2500, channels).expand(b, -1)
    return batch


@pytest.mark.parametrize("system", SYSTEMS)
def test_has_a_proof_and_says_where_it_comes_from(system: str) -> None:
    module = importlib.import_module(f"models.presets.{system}")
    assert module.__doc__
    assert "Paper: " in module.__doc__
    assert f"{system}_nano" in presets()
    proof = Path(__file__).with_name(f"test_{system}.py")
    assert proof.is_file(), f"{system} has no proof {proof.name}"
    assert f"def test_{system}_" in proof.read_text(), "a proof names its system"


@pytest.mark.parametrize("name", NANO)
def test_takes_odd_sizes_and_keeps_samples_apart(name: str) -> None:
    torch.manual_seed(0)
    model, batch = create_model(name).eval(), given(name)
    with torch.no_grad():
        y = model(**batch)
        first = model(**{key: value[:1] for key, value in batch.items()})
    assert y.shape == (2, 10)
    assert y.isfinite().all()
    assert_close(y[:1], first, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", [n for n in NANO if resolve(n)["modality"] == "image"])
def test_stages_cover_odd_images_at_strides_that_double(name: str) -> None:
    model, x = create_model(name).eval(), given(name)["x"]
    with torch.no_grad():
        grids = [stage.map().shape[2:] for stage in model.features(x)]
    first = round(model.stem.cells**0.5)
    assert first in (2, 4, 8, 16)
    strides = [first * 2**i for i in range(len(grids))]
    assert grids == [tuple(-(-size // stride) for size in x.shape[2:]) for stride in strides]


@pytest.mark.parametrize("name", NANO)
def test_every_parameter_learns(name: str) -> None:
    torch.manual_seed(0)
    model = create_model(name).train()
    for key, parameter in model.named_parameters():
        if not parameter.any():  # gates and tables that start at zero hide what stands behind them
            torch.nn.init.normal_(parameter, std=0.02)
        assert parameter.requires_grad, key
    model(**given(name)).square().sum().backward()
    assert not [key for key, p in model.named_parameters() if p.grad is None or not p.grad.any()]


@pytest.mark.parametrize("name", [n for n in NANO if resolve(n)["modality"] == "image"])
def test_hidden_patches_reach_no_logit(name: str) -> None:
    torch.manual_seed(0)
    model, x = create_model(name).eval(), given(name)["x"]
    with torch.no_grad():
        _, layout = model.embed(x)
        assert layout.grid is not None
        mask = torch.rand(2, *layout.grid) < 0.6
        mask[:, 0] = True
        side = round(model.stem.cells**0.5)
        real = mask.repeat_interleave(side, 1).repeat_interleave(side, 2)[:, None, : x.shape[2], : x.shape[3]]
        y = model(x, mask=mask.flatten(1))
        assert_close(model(torch.where(real, x, x + 7), mask=mask.flatten(1)), y)
        assert not torch.equal(y, model(x))


@pytest.mark.compile
@pytest.mark.parametrize("name", NANO)
def test_compiles_to_one_graph(name: str) -> None:
    torch.manual_seed(0)
    model, batch = create_model(name).eval(), given(name)
    torch._dynamo.reset()  # every model has the same forward, which may be compiled eight times
    whole = torch.compile(model, backend="eager", fullgraph=True)
    assert_close(whole(**batch), model(**batch), atol=1e-5, rtol=1e-4)
