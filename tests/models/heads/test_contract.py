"""Every head keeps the promises of Head."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from models.heads.base import HEADS, Head
from models.layout import Layout, Stage

B, DIMS, OUT = 2, (8, 16), 3
GRIDS = {(9, 13): ((5, 7), (3, 4)), (1, 1): ((1, 1), (1, 1)), (4, 2): ((2, 1), (1, 1))}  # pixels -> stages
OPTIONS: dict[str, dict[str, Any]] = {"class_attention": {"head_dim": 4}}


@pytest.fixture(params=HEADS.names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def build(name: str) -> Head:
    torch.manual_seed(0)
    return HEADS.create(name, DIMS, OUT, **OPTIONS.get(name, {})).double().eval()


def tokens(size: tuple[int, int] = (9, 13)) -> list[Tensor]:
    """Of each stage."""
    draw = torch.Generator().manual_seed(1)
    return [
        torch.randn(B, h * w, dim, dtype=torch.float64, generator=draw)
        for dim, (h, w) in zip(DIMS, GRIDS[size], strict=True)
    ]


def stages(parts: list[Tensor], size: tuple[int, int] = (9, 13), masks: Any = (None, None)) -> list[Stage]:
    return [
        Stage(x, Layout(grid=grid, mask=mask))
        for x, grid, mask in zip(parts, GRIDS[size], masks, strict=True)
    ]


def some_masks() -> list[Tensor]:
    draw = torch.Generator().manual_seed(3)
    masks = [torch.rand(B, h * w, generator=draw) < 0.6 for h, w in GRIDS[9, 13]]
    for mask in masks:
        mask[:, 0] = True
    return masks


def test_answers_for_what_it_says_at_any_size(name: str) -> None:
    head = build(name)
    for size in GRIDS:
        parts = tokens(size)
        y = head(stages(parts, size), size)
        assert y.shape == ((B, OUT) if head.per == "sample" else (*parts[0].shape[:2], OUT))
        assert y.isfinite().all()


def test_hidden_tokens_are_not_read(name: str) -> None:
    head, parts, masks = build(name), tokens(), some_masks()
    # no shift of all channels alike, which norms would take away
    other = [torch.where(m[..., None], x, 10 - 3 * x.flip(-1)) for x, m in zip(parts, masks, strict=True)]
    y, moved = (head(stages(some, masks=masks), (9, 13)) for some in (parts, other))
    kept = slice(None) if head.per == "sample" else masks[0]
    assert_close(y[kept], moved[kept])
    assert not torch.equal(y[kept], head(stages(parts), (9, 13))[kept])


def test_batch_rows_are_independent(name: str) -> None:
    head, parts = build(name), tokens()
    one = [x[:1] for x in parts]
    assert_close(head(stages(parts), (9, 13))[:1], head(stages(one), (9, 13)))


def test_every_parameter_gets_a_gradient(name: str) -> None:
    head = build(name)
    head(stages(tokens()), (9, 13)).square().sum().backward()
    hidden = {"token"}  # stands where the objective hides one
    missing = {key for key, p in head.named_parameters() if p.grad is None or not p.grad.any()}
    assert missing <= hidden


@pytest.mark.compile
def test_compiles_to_one_graph_and_exports(name: str, one_graph: Any, exports: Any) -> None:
    for masks in ((None, None), some_masks()):

        def answer(head: Head, *parts: Tensor, masks: Any = masks) -> Tensor:
            return head(stages(list(parts), masks=masks), (9, 13))

        one_graph(build(name), answer, *tokens())
        exports(build(name), answer, *tokens())


def test_builds_on_the_meta_device(name: str) -> None:
    with torch.device("meta"):
        head = HEADS.create(name, DIMS, OUT, **OPTIONS.get(name, {}))
    assert all(p.is_meta for p in head.parameters())
