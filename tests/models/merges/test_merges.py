import torch
from torch.testing import assert_close

from models.layout import Layout
from models.merges.convs import ConvsMerge
from models.merges.curve import CurvePooling
from models.merges.patch import PatchMerging
from models.ops.curves import curve_order


def test_patches_are_joined_over_space_frame_by_frame() -> None:
    merge = PatchMerging(4, 8)
    x = torch.randn(2, 3 * 5 * 4, 4)
    whole = merge(x, Layout(grid=(3, 5, 4)))
    assert whole.layout.grid == (3, 3, 2)
    for frame in range(3):
        one = merge(x.unflatten(1, (3, 20))[:, frame], Layout(grid=(5, 4)))
        assert_close(whole.tokens.unflatten(1, (3, 6))[:, frame], one.tokens)


def test_a_merged_patch_is_real_if_one_of_its_tokens_is() -> None:
    mask = torch.zeros(1, 15, dtype=torch.bool)
    mask[0, 14] = True  # row 2, column 4 of (3, 5)
    stage = PatchMerging(4, 8)(torch.randn(1, 15, 4), Layout(grid=(3, 5), mask=mask))
    assert stage.layout.mask is not None
    assert stage.layout.mask.tolist() == [[False] * 5 + [True]]


def test_hidden_tokens_do_not_reach_a_merged_patch() -> None:
    merge, mask = PatchMerging(4, 8), torch.arange(16).expand(1, -1) % 3 > 0
    x = torch.randn(1, 16, 4)
    layout = Layout(grid=(4, 4), mask=mask)
    assert_close(merge(x, layout).tokens, merge(torch.where(mask[..., None], x, x + 9), layout).tokens)


def test_runs_of_points_are_averaged() -> None:
    torch.manual_seed(0)
    merge = CurvePooling(4, 8)
    x, coords = torch.randn(1, 10, 4), torch.rand(1, 10, 3)
    stage = merge(x, Layout(coords=coords))
    order = curve_order(coords, None)[0]
    assert stage.layout.coords is not None
    assert stage.parent is not None
    for i, run in enumerate(order.split(4)):
        assert_close(stage.tokens[0, i], merge.norm(merge.reduce(x[0, run]).mean(0)))
        assert_close(stage.layout.coords[0, i], coords[0, run].mean(0))
        assert stage.parent[0, run].tolist() == [i] * len(run)


def test_hidden_points_reach_no_run() -> None:
    torch.manual_seed(0)
    merge, mask = CurvePooling(4, 8), torch.arange(10).expand(1, -1) < 7
    x, coords = torch.randn(1, 10, 4), torch.rand(1, 10, 3)
    padded, short = merge(x, Layout(coords=coords, mask=mask)), merge(x[:, :7], Layout(coords=coords[:, :7]))
    assert padded.layout.mask is not None
    assert padded.layout.mask.tolist() == [[True, True, False]]
    assert_close(padded.tokens[:, :2], short.tokens)


def test_several_convolutions_merge_as_one_after_the_other() -> None:
    torch.manual_seed(0)
    merge = ConvsMerge(4, 6).eval()
    x = torch.randn(2, 35, 4)
    stage = merge(x, Layout(grid=(5, 7)))
    wide, across, narrow = (layer.conv for layer in merge.layers)
    y = wide(x.mT.unflatten(-1, (5, 7))).relu()
    y = torch.nn.functional.conv2d(y, across.weight, across.bias, stride=2, padding=1, groups=24).relu()
    assert stage.layout.grid == (3, 4)
    assert_close(stage.tokens, merge.layers[2].norm(narrow(y).flatten(2).mT, stage.layout))
