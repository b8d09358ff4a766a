import torch
import torch.nn.functional as F
from torch.testing import assert_close

from models.layout import Layout
from models.mixers.enhanced import EnhancedAttention

SMALL = [{"head_dim": 8}]


def test_is_attention_and_a_convolution_of_its_values() -> None:
    torch.manual_seed(0)
    mixer = EnhancedAttention(8, head_dim=4, kernel=3, bias=False).double()
    x = torch.randn(2, 30, 8, dtype=torch.float64)
    q, k, v = mixer.qkv(x).view(2, 30, 3, 2, 4).permute(2, 0, 3, 1, 4)
    dense = ((q @ k.mT / 2).softmax(-1) @ v).transpose(1, 2).flatten(2)
    conv = mixer.local.conv
    maps = v.transpose(1, 2).flatten(2).mT.unflatten(-1, (5, 6))
    local = F.conv2d(maps, conv.weight, conv.bias, padding=1, groups=8).flatten(2).mT
    assert_close(mixer(x, Layout(grid=(5, 6))), mixer.out(dense + local))


def test_convolves_its_input_if_told() -> None:
    torch.manual_seed(0)
    values = EnhancedAttention(8, head_dim=4).double()
    inputs = EnhancedAttention(8, head_dim=4, of_input=True).double()
    inputs.load_state_dict(values.state_dict())
    x, layout = torch.randn(1, 30, 8, dtype=torch.float64), Layout(grid=(5, 6))
    v = values.qkv(x)[..., 16:]
    moved = values.out(values.local(x, layout) - values.local(v, layout)) - values.out.bias
    assert_close(inputs(x, layout) - values(x, layout), moved)
