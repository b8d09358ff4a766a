import torch
import torch.nn.functional as F
from torch.testing import assert_close

from models.channels.conv_mlp import ConvMlp
from models.layout import Layout


def test_convolves_its_hidden_channels_before_or_behind_the_activation() -> None:
    for act_last in (False, True):
        torch.manual_seed(0)
        channel = ConvMlp(4, ratio=2.0, act_last=act_last).double()
        x = torch.randn(2, 30, 4, dtype=torch.float64)
        h = channel.up(x) if act_last else F.gelu(channel.up(x))
        conv = channel.local.conv
        maps = h.mT.unflatten(-1, (5, 6))
        h = h + F.conv2d(maps, conv.weight, conv.bias, padding=1, groups=8).flatten(2).mT
        assert_close(channel(x, Layout(grid=(5, 6))), channel.down(F.gelu(h) if act_last else h))
