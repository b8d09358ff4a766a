import torch
import torch.nn.functional as F
from torch.testing import assert_close

from models.layout import Layout
from models.mixers.depthwise import DepthwiseMixer

SMALL = [{"kernel": 3}, {"kernel": 5, "norm": "layer"}]


def test_equals_a_grouped_convolution_on_rasters_of_any_axes() -> None:
    torch.manual_seed(0)
    for grid, conv in (((9,), F.conv1d), ((5, 4), F.conv2d), ((3, 4, 5), F.conv3d)):
        mixer = DepthwiseMixer(8, axes=len(grid), kernel=3).double()
        x = torch.randn(2, torch.Size(grid).numel(), 8, dtype=torch.float64)
        weights = mixer.conv.conv.weight, mixer.conv.conv.bias
        want = conv(x.mT.unflatten(-1, grid), *weights, padding=1, groups=8).flatten(2).mT
        assert_close(mixer(x, Layout(grid=grid)), want)
