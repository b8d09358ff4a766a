"""fna: neighbourhood attention by tiles equals its dense form in one to three axes, at linear cost."""

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from models import create_model
from models.layout import Layout
from models.mixers import create_mixer
from models.ops.flops import count_flops
from models.ops.neighbourhood import Neighbourhood, neighbourhood_attention
from models.ops.neighbourhood.reference import reference


@pytest.mark.parametrize("grid", [(31,), (12, 17), (6, 7, 9)])
@pytest.mark.parametrize(("size", "dilation"), [(2, 1), (3, 2), (5, 3), (7, 1)])
def test_fna_equals_dense_attention_for_every_window_dilation_and_causal_axis(
    grid: tuple[int, ...], size: int, dilation: int
) -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, *grid, 2, 4, dtype=torch.float64)
    for causal in itertools.product((False, True), repeat=len(grid)):
        hood = Neighbourhood.on(len(grid), size, dilation, causal)
        want = reference(q, k, v, None, hood)
        assert_close(neighbourhood_attention(q, k, v, None, hood), want, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("grid", [(31,), (12, 17), (6, 7, 9)])
def test_fna_with_the_largest_window_is_full_attention(grid: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, *grid, 2, 4, dtype=torch.float64)
    got = neighbourhood_attention(q, k, v, None, Neighbourhood.on(len(grid), grid))
    flat = [t.flatten(1, -3).transpose(1, 2) for t in (q, k, v)]
    want = F.scaled_dot_product_attention(*flat).transpose(1, 2).view_as(q)
    assert_close(got, want, atol=1e-12, rtol=1e-12)


def test_fna_costs_four_times_as_much_for_four_times_the_tokens() -> None:
    mixer = create_mixer("neighbourhood", dim=16, head_dim=8)

    def flops(side: int) -> int:
        x = torch.zeros(1, side * side, 16)
        with torch.no_grad():
            return count_flops(lambda: mixer(x, Layout(grid=(side, side))))

    assert flops(64) == 4 * flops(32)


def test_fna_holds_less_than_five_times_as_much_for_four_times_the_tokens(memory: Any) -> None:
    mixer = create_mixer("neighbourhood", dim=16, head_dim=8)

    def held(side: int) -> tuple[int, int]:
        x = torch.zeros(1, side * side, 16, requires_grad=True)
        found: tuple[int, int] = memory(lambda: mixer(x, Layout(grid=(side, side))).sum().backward())
        return found

    (whole, largest), (more, larger) = held(24), held(48)
    assert more < 5 * whole
    assert larger < 5 * largest
    assert larger < 48**4 * 4, "no score of every pair, not even of one head"


@pytest.mark.filterwarnings("ignore:return_lse is deprecated:FutureWarning")  # of natten's own call,
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning")  # and this
def test_fna_equals_natten(near: Any) -> None:
    natten: Any = pytest.importorskip("natten")
    torch.manual_seed(0)
    for grid, size, dilation, causal in (
        ((40,), 7, 2, True),
        ((16, 21), (5, 7), (3, 1), (False, True)),
        ((6, 8, 10), (3, 3, 5), (2, 1, 2), (True, False, False)),
    ):
        q, k, v = torch.randn(3, 1, *grid, 2, 16)
        name = f"na{len(grid)}d"
        peer = getattr(natten, name)
        with torch.no_grad():
            want = peer(q, k, v, kernel_size=size, dilation=dilation, is_causal=causal, backend="flex-fna")
        hood = Neighbourhood.on(len(grid), size, dilation, causal)
        got = neighbourhood_attention(q, k, v, None, hood)
        near("models.ops.neighbourhood", "natten", name, got, want)


def test_fna_video_model_sees_no_later_frame() -> None:
    torch.manual_seed(0)
    model = create_model("fna_video_nano").eval()
    clip = torch.randn(1, 3, 8, 16, 16)
    later = clip.clone()
    later[:, :, 4:] += 1
    with torch.no_grad():
        a, b = (model.features(x)[-1].map() for x in (clip, later))
    assert_close(a[:, :, :2], b[:, :, :2])
    assert (a[:, :, 2:] - b[:, :, 2:]).abs().max() > 1e-3
