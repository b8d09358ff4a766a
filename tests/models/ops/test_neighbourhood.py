import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from models.ops.neighbourhood import NEIGHBOURHOOD, Neighbourhood, flex, neighbourhood_attention
from models.ops.neighbourhood.geometry import axes_of
from models.ops.neighbourhood.reference import reference
from models.ops.neighbourhood.tiled import by_tiles

SHAPES = [
    ((23,), 5, 1, False),
    ((40,), 7, 1, True),
    ((23,), 4, 3, False),  # an even window, and residues that are not equally long
    ((23,), 3, 5, True),
    ((3,), 7, 9, False),  # both window and dilation beyond the axis
    ((9, 20), 7, 1, False),
    ((11, 13), (3, 5), (2, 3), False),
    ((12, 6), 3, (4, 2), (False, True)),
    ((5, 4, 6), 3, 1, False),
    ((6, 5, 7), (2, 3, 3), (1, 2, 2), (True, False, False)),
]


def draw(grid: tuple[int, ...], size: tuple[int, ...], b: int = 2, h: int = 2, e: int = 4) -> list[Tensor]:
    """q, k, v and the bias table, in double precision."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.Size(2 * s - 1 for s in size).numel()
    shapes = [(b, *grid, h, e)] * 3 + [(rows, h)]
    return [torch.randn(s, dtype=torch.float64, generator=generator).requires_grad_() for s in shapes]


def slow(
    q: Tensor, k: Tensor, v: Tensor, table: Tensor, hood: Neighbourhood, mask: Tensor | None = None
) -> Tensor:
    """Query by query: the keys of its residue, sorted by how far they are, the nearest taken."""
    _, *grid, _, e = q.shape
    y = torch.zeros_like(v)
    for place in itertools.product(*map(range, grid)):
        near = []
        for p, n, size, step, causal in zip(place, grid, hood.size, hood.dilation, hood.causal, strict=True):
            keys = [other for other in range(n) if (other - p) % step == 0 and (other <= p or not causal)]
            middle = p - (size % 2 == 0) * step / 2  # an even window has one more key before than after
            near.append(sorted(sorted(keys, key=lambda key: (abs(key - middle), key))[:size]))
        keys = list(itertools.product(*near))
        rows = []
        for other in keys:
            row = 0
            for p, key, size, step in zip(place, other, hood.size, hood.dilation, strict=True):
                row = row * (2 * size - 1) + (p - key) // step + size - 1
            rows.append(row)
        some = torch.stack([k[(slice(None), *key)] for key in keys], 1)  # (b, m, h, e)
        scores = torch.einsum("bhe,bmhe->bhm", q[(slice(None), *place)], some) / e**0.5 + table[rows].T
        values = torch.stack([v[(slice(None), *key)] for key in keys], 1)
        y[(slice(None), *place)] = torch.einsum("bhm,bmhe->bhe", scores.softmax(-1), values)
    return y


@pytest.mark.parametrize(("grid", "size", "dilation", "causal"), SHAPES)
@pytest.mark.parametrize("most", [2**24, 1])
def test_tiles_equal_dense_attention_under_the_mask(
    grid: tuple[int, ...], size: Any, dilation: Any, causal: Any, most: int
) -> None:
    hood = Neighbourhood.on(len(grid), size, dilation, causal)
    inputs = draw(grid, hood.size)
    want, got = reference(*inputs, hood), by_tiles(*inputs, hood, most=most)
    assert_close(got, want, atol=1e-12, rtol=1e-10)
    wanted = torch.autograd.grad(want.square().sum(), inputs)
    assert_close(torch.autograd.grad(got.square().sum(), inputs), wanted, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize(("grid", "size", "dilation", "causal"), SHAPES)
def test_the_dense_form_equals_a_search_for_the_nearest_keys(
    grid: tuple[int, ...], size: Any, dilation: Any, causal: Any
) -> None:
    hood = Neighbourhood.on(len(grid), size, dilation, causal)
    with torch.no_grad():
        inputs = draw(grid, hood.size, b=1)
        assert_close(reference(*inputs, hood), slow(*inputs, hood), atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("with_table", [False, True])
def test_hidden_keys_are_hidden_in_both(with_table: bool) -> None:
    hood = Neighbourhood.on(2, 3, (2, 3))
    q, k, v, table = draw((9, 20), hood.size)
    bias = table if with_table else None
    mask = torch.rand(2, 180, generator=torch.Generator().manual_seed(1)) < 0.5
    want = reference(q, k, v, bias, hood, mask=mask)
    got = neighbourhood_attention(q, k, v, bias, hood, mask=mask)
    assert got.isfinite().all()
    # a query whose keys are all hidden has no answer; whoever sees one agrees
    ones = torch.ones_like(v)
    seen = reference(q, k, ones * mask.view(2, 9, 20, 1, 1), bias, hood) > 0
    assert_close(got[seen], want[seen], atol=1e-12, rtol=1e-10)


def test_takes_another_scale() -> None:
    hood = Neighbourhood.on(1, 3)
    inputs = draw((9,), hood.size)
    got = neighbourhood_attention(*inputs, hood, scale=0.3)
    assert_close(got, reference(*inputs, hood, scale=0.3))


def test_flops_and_kept_memory_grow_linearly() -> None:
    hood = Neighbourhood.on(2, 7)

    def cost(side: int) -> tuple[int, int]:
        q, k, v, table = (t.float().detach().requires_grad_() for t in draw((side, side), hood.size, b=1))
        kept: dict[int, int] = {}

        def count(t: Tensor) -> Tensor:
            kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes() // 4
            return t

        with (
            FlopCounterMode(display=False) as counter,
            torch.autograd.graph.saved_tensors_hooks(count, lambda t: t),
        ):
            by_tiles(q, k, v, table, hood, most=2**14)
        return counter.get_total_flops(), sum(kept.values())

    (flops, kept), (more_flops, more_kept) = cost(32), cost(64)
    assert 3.9 * flops <= more_flops <= 4.1 * flops
    assert more_kept <= 4.5 * kept
    assert kept < 32 * 32 * 49 * 2, "scores must not outlive their step"


def test_rejects_a_neighbourhood_of_the_wrong_rank() -> None:
    with pytest.raises(ValueError, match="a neighbourhood of 2 axes needs 2 positive sizes"):
        Neighbourhood.on(2, (3, 3, 3))
    with pytest.raises(ValueError, match="positive"):
        Neighbourhood.on(1, 3, 0)


FLEX = {
    "line": ((300,), Neighbourhood.on(1, 7)),
    "causal line": ((300,), Neighbourhood.on(1, 9, causal=True)),
    "raster": ((20, 37), Neighbourhood.on(2, 5)),
    "dilated": ((24, 36), Neighbourhood.on(2, 3, 2)),
    "whole": ((9, 10), Neighbourhood.on(2, 11)),
    "clip": ((6, 9, 10), Neighbourhood.on(3, (3, 5, 3), causal=(True, False, False))),
}


@pytest.mark.parametrize("case", FLEX)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")  # eager is what runs here
def test_flex_equals_dense_attention_under_the_mask(case: str, masked: bool) -> None:
    grid, hood = FLEX[case]
    draw = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 2, *grid, 2, 16, generator=draw)
    table = torch.randn(math.prod(2 * size - 1 for size in hood.size), 2, generator=draw)
    mask = torch.rand(2, math.prod(grid), generator=draw) < 0.9 if masked else None
    want = reference(q, k, v, table, hood, mask=mask)
    got = flex.run(q, k, v, table, hood, mask=mask)
    if mask is not None:  # queries that see nothing are nobody's business
        alone = ~reference(q, k, mask.view(2, *grid, 1, 1).float().expand_as(v), None, hood).any(-1)
        assert not alone.any(), "this mask leaves every query something"
    assert_close(got, want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("case", FLEX)
def test_flex_visits_every_tile_that_is_seen_and_no_other(case: str) -> None:
    grid, hood = FLEX[case]
    axes, tile = axes_of(grid, hood), flex.TILE[len(grid)]
    padded = [-(-axis.count // size) * size for axis, size in zip(axes, tile, strict=True)]
    place, first, end = flex.places(axes, tile, padded, torch.device("cpu"))
    real = (place < torch.tensor([axis.count for axis in axes])[:, None]).all(0)
    seen = ((first[:, :, None] <= place[:, None]) & (place[:, None] < end[:, :, None])).all(0)
    seen = seen & real[:, None] & real[None]
    size = math.prod(tile)
    tiles = seen.unflatten(0, (-1, size)).unflatten(2, (-1, size)).any(3).any(1)
    counts, indices = flex.blocks(axes, tile, padded, torch.device("cpu"))
    for row, count in enumerate(counts.tolist()):
        assert sorted(indices[row, :count].tolist()) == tiles[row].nonzero().flatten().tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_errors_are_at_most_twice_those_of_the_plain_form(dtype: torch.dtype) -> None:
    given, hood = [t.detach() for t in draw((9, 20), (7, 7), e=16)], Neighbourhood.on(2, 7)
    exact, rough = reference(*given, hood), [t.to(dtype) for t in given]
    plain, fast = reference(*rough, hood), neighbourhood_attention(*rough, hood)
    assert (fast - exact).abs().max() <= 2 * (plain - exact).abs().max()


def test_explains_why_flex_was_not_taken() -> None:
    q = torch.randn(1, 6, 6, 1, 16)
    text = NEIGHBOURHOOD.explain(q, q, q, None, Neighbourhood.on(2, 3))
    assert "flex       refused: it is compiled for CUDA" in text
    assert "tiles      taken" in text
    uneven = NEIGHBOURHOOD.facts(q, q, q, None, Neighbourhood.on(2, 3, 4))._replace(device="cuda")
    assert flex.refuses(uneven) == "the dilation cuts the raster into parts of different sizes"
