"""less_vit: spectral times spatial attention, for any number of bands."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from models import create_model
from models.build import create_task
from models.layout import Layout
from models.mixers import create_mixer


def weights(branch: Any, x: Tensor, allowed: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The matrix that a branch applies, and its values, of each head: (b, h, n, n), (b, h, n, e)."""
    x = branch.norm(x, Layout())
    q, k = (t.unflatten(-1, (branch.heads, -1)).transpose(1, 2) for t in branch.qk(x).chunk(2, -1))
    scores = q @ k.mT / q.shape[-1] ** 0.5
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -torch.inf)
    return scores.softmax(-1), branch.v(x).unflatten(-1, (branch.heads, -1)).transpose(1, 2)


def test_less_vit_equals_the_dense_kronecker_product() -> None:
    torch.manual_seed(0)
    c, s, heads = 4, 6, 2
    mixer = create_mixer("kronecker", 32).double()
    x, layout = torch.randn(2, c * s, 32, dtype=torch.float64), Layout(grid=(c, s))
    bands, places = mixer.pooled(x, layout)
    (a_c, v_c), (a_s, v_s) = weights(mixer.bands, bands), weights(mixer.places, places)
    dense = torch.zeros(2, c * s, heads, 16, dtype=torch.float64)
    for b in range(2):
        for h in range(heads):
            attention = np.kron(a_c[b, h].detach(), a_s[b, h].detach())
            values = np.kron(v_c[b, h].detach(), v_s[b, h].detach())
            dense[b, :, h] = torch.from_numpy(attention @ values)
    assert_close(mixer(x, layout), mixer.out(dense.flatten(-2)), atol=1e-10, rtol=0)


def cube(bands: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(2, bands, 12, 16, dtype=torch.float64, generator=draw)
    return x, torch.linspace(400, 2400, bands, dtype=torch.float64).expand(2, -1)


def nano(**options: Any) -> Any:
    torch.manual_seed(0)
    return create_model("less_vit_nano", **options).double().eval()


def test_less_vit_permuting_bands_with_their_wavelengths_permutes_the_bands() -> None:
    model, (x, wavelengths) = nano(), cube(6)
    order = torch.randperm(6)
    (whole,), (moved,) = (
        model.features(x, wavelengths=wavelengths),
        model.features(x[:, order], wavelengths=wavelengths[:, order]),
    )
    assert_close(moved.map(), whole.map()[:, :, order], atol=1e-10, rtol=0)
    assert_close(moved.prefix, whole.prefix, atol=1e-10, rtol=0)
    (wrong,) = model.features(x[:, order], wavelengths=wavelengths)
    assert (wrong.prefix - whole.prefix).abs().max() > 1e-6, "wavelengths must matter"


@pytest.mark.parametrize("bands", [1, 3, 40])
def test_less_vit_takes_any_number_of_bands(bands: int) -> None:
    x, wavelengths = cube(bands)
    assert nano()(x, wavelengths=wavelengths).shape == (2, 10)


def test_less_vit_of_eight_times_the_bands_costs_less_than_ten_times() -> None:
    model = nano()

    def flops(bands: int) -> int:
        x, wavelengths = cube(bands)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(x, wavelengths=wavelengths)
        return counter.get_total_flops()

    assert flops(64) < 10 * flops(8)


def test_less_vit_radius_hides_places_that_are_further_away() -> None:
    torch.manual_seed(0)
    mixer = create_mixer("kronecker", 32, radius=50.0).double()
    metres = torch.tensor([[0.0, 0], [0, 0], [0, 40], [30, 40], [100, 0]], dtype=torch.float64)
    layout = Layout(grid=(3, 5), coords=metres.repeat(3, 1)[None])
    allowed = mixer.near(layout, None)[0, 0]
    want = torch.cdist(metres, metres) <= 50
    want[0] = want[:, 0] = True  # the class token sees all, and all see it
    assert torch.equal(allowed, want)
    x = torch.randn(1, 15, 32, dtype=torch.float64)
    bands, places = mixer.pooled(x, layout)
    (a_c, v_c), (a_s, v_s) = weights(mixer.bands, bands), weights(mixer.places, places, allowed)
    assert a_s[0, 0][~allowed].abs().max() == 0
    dense = torch.einsum("bhce,bhsf->bcshef", a_c @ v_c, a_s @ v_s).flatten(-3).flatten(1, 2)
    assert_close(mixer(x, layout), mixer.out(dense), atol=1e-10, rtol=0)


def test_less_vit_hides_whole_bands_and_places_of_all_bands() -> None:
    torch.manual_seed(0)
    task = create_task(
        "masked",
        model="less_vit_nano",
        inputs={"x": "cube", "wavelengths": "nm"},
        num_outputs=1,
        mask_ratio=0.75,
        band_ratio=0.5,
    ).double()
    x, wavelengths = cube(8)
    tokens, layout = task.model.embed(x, wavelengths=wavelengths)
    hidden, seen = task.choose(tokens, layout)
    seen = seen.unflatten(1, (8, 12))
    assert torch.equal(~hidden.unflatten(1, (8, 12)), seen)
    assert seen.any(2).sum(1).tolist() == [4, 4]
    assert seen.any(1).sum(1).tolist() == [3, 3]
    assert seen.sum((1, 2)).tolist() == [12, 12], "what is seen is a raster of its own"
    task({"cube": x, "nm": wavelengths})["loss"].backward()
    assert all(p.grad is not None for p in task.model.backbone.blocks.parameters())
