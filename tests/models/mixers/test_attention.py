import torch
from torch.testing import assert_close

from models.layout import Layout
from models.mixers.attention import GlobalAttention


def test_equals_torch_multi_head_attention() -> None:
    torch.manual_seed(0)
    mixer = GlobalAttention(16, head_dim=4).double()
    peer = torch.nn.MultiheadAttention(16, 4, batch_first=True, dtype=torch.float64)
    peer.load_state_dict(
        {
            "in_proj_weight": mixer.attention.qkv.weight,
            "in_proj_bias": mixer.attention.qkv.bias,
            "out_proj.weight": mixer.attention.out.weight,
            "out_proj.bias": mixer.attention.out.bias,
        }
    )
    x, mask = torch.randn(2, 9, 16, dtype=torch.float64), torch.arange(9).expand(2, -1) < 6
    assert_close(mixer(x, Layout()), peer(x, x, x)[0])
    assert_close(mixer(x, Layout(mask=mask)), peer(x, x, x, key_padding_mask=~mask)[0])


def test_packed_sequences_equal_separate_ones() -> None:
    torch.manual_seed(0)
    mixer = GlobalAttention(16, head_dim=4).double()
    x = torch.randn(1, 12, 16, dtype=torch.float64)
    packed = mixer(x, Layout(cu_seqlens=torch.tensor([0, 5, 6, 12], dtype=torch.int32)))
    apart = [mixer(part, Layout()) for part in x.split([5, 1, 6], dim=1)]
    assert_close(packed, torch.cat(apart, 1))
