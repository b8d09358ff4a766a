"""cswin: stripes along both axes. No installable peer: dense attention in double precision."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from models import create_model
from models.imports import export_state, import_state
from models.layout import Layout
from models.mixers import create_mixer

GRID, STRIPE = (5, 7), 2


def given(stripe: int | None = STRIPE) -> tuple[Any, Tensor]:
    torch.manual_seed(0)
    mixer = create_mixer("cross_stripes", 8, stripe=stripe, head_dim=2).double()
    return mixer, torch.randn(2, 35, 8, dtype=torch.float64)


def same_stripe(axis: int) -> Tensor:
    """(n, n): tokens in the same vertical stripe (axis 1), or horizontal one (axis 0)."""
    place = torch.stack(torch.meshgrid(*map(torch.arange, GRID), indexing="ij"), -1).flatten(0, 1)[:, axis]
    return place[:, None] // STRIPE == place[None] // STRIPE


def test_cswin_equals_dense_attention_under_the_stripe_mask_plus_a_convolution() -> None:
    mixer, x = given()
    q, k, v = mixer.qkv(x).unflatten(-1, (3, 4, 2)).permute(2, 0, 3, 1, 4)  # (b, h, n, e)
    y = torch.empty_like(v)
    for axis, heads in ((1, slice(2)), (0, slice(2, 4))):
        scores = (q[:, heads] @ k[:, heads].mT / 2**0.5).masked_fill(~same_stripe(axis), -torch.inf)
        y[:, heads] = scores.softmax(-1) @ v[:, heads]
        channels = slice(2 * heads.start if heads.start else 0, 2 * heads.stop)
        weight, bias = mixer.near.weight[channels], mixer.near.bias[channels]
        image = v[:, heads].transpose(2, 3).flatten(1, 2).unflatten(-1, GRID)
        for start in range(0, GRID[axis], STRIPE):
            piece = image.narrow(2 + axis, start, min(STRIPE, GRID[axis] - start))
            near = F.conv2d(piece, weight, bias, padding=1, groups=4)
            rows = [slice(None)] * 2
            rows[axis] = slice(start, start + STRIPE)
            whole = y[:, heads].unflatten(2, GRID)
            whole[:, :, rows[0], rows[1]] += near.unflatten(1, (2, 2)).movedim(2, -1)
    assert_close(mixer(x, Layout(grid=GRID)), mixer.out(y.transpose(1, 2).flatten(2)))


def test_cswin_pixel_sees_exactly_its_cross() -> None:
    mixer, x = given()
    jacobian = torch.autograd.functional.jacobian(
        lambda x: mixer(x, Layout(grid=GRID)).sum(-1)[0], x[:1]
    )  # (n, 1, n, d)
    assert torch.equal(jacobian[:, 0].abs().amax(-1) > 0, same_stripe(0) | same_stripe(1))


def test_cswin_stripes_as_wide_as_the_raster_are_full_attention_in_both_halves() -> None:
    mixer, x = given(7)
    q, k, v = mixer.qkv(x).unflatten(-1, (3, 4, 2)).permute(2, 0, 3, 1, 4)
    full = ((q @ k.mT / 2**0.5).softmax(-1) @ v).transpose(1, 2).flatten(2)
    image = v.transpose(2, 3).flatten(1, 2).unflatten(-1, GRID)
    near = F.conv2d(image, mixer.near.weight, mixer.near.bias, padding=1, groups=8).flatten(2).mT
    assert_close(mixer(x, Layout(grid=GRID)), mixer.out(full + near))
    whole, _ = given(None)
    whole.load_state_dict(mixer.state_dict())
    assert_close(whole(x, Layout(grid=GRID)), mixer(x, Layout(grid=GRID)))


@pytest.mark.parametrize("size", [(224, 224), (96, 200)])
def test_cswin_runs_at_unseen_resolutions_without_a_table(size: tuple[int, int]) -> None:
    model = create_model("cswin_nano").eval()
    with torch.no_grad():
        stages = model.features(torch.randn(1, 3, *size))
    for stage, stride in zip(stages, (4, 8, 16), strict=True):
        assert stage.map().shape[2:] == (size[0] // stride, -(-size[1] // stride))
    assert not any(value.shape[0] in (14, 49, 56, 169, 196) for value in model.state_dict().values())


def test_cswin_weights_go_to_the_authors_names_and_back() -> None:
    state = create_model("cswin_tiny", depths=(1, 1, 2, 1), dims=(64, 64, 128, 128)).state_dict()
    theirs = export_state("cswin_tiny", state, source="authors")
    assert theirs["stage1.0.attns.1.get_v.weight"].shape == (32, 1, 3, 3)
    back = import_state("cswin_tiny", theirs, source="authors")
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)
