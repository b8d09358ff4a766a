import pytest
import torch
from torch.testing import assert_close

from models.heads.base import HEADS
from models.layout import Layout, Stage


@pytest.mark.parametrize("every", [False, True])
def test_hidden_tokens_are_not_read(every: bool) -> None:
    torch.manual_seed(0)
    head = HEADS.create("class_attention", [8], 3, head_dim=4, every=every).eval()
    x, mask = torch.randn(2, 6, 8), torch.arange(6).expand(2, -1) < 4
    y = head([Stage(x, Layout(mask=mask))], (6,))
    assert y.shape == (2, 3)
    assert_close(y, head([Stage(x[:, :4], Layout())], (4,)))


def test_every_block_changes_the_class_token_alone() -> None:
    torch.manual_seed(0)
    head, x = HEADS.create("class_attention", [8], 0, head_dim=4, depth=1), torch.randn(2, 6, 8)
    block = head.blocks[0]
    both = block.norm1(torch.cat([head.cls.expand(2, -1, -1), x], 1))
    k, v = block.kv(both).view(2, 7, 2, 2, 4).permute(2, 0, 3, 1, 4)
    q = block.q(both[:, :1]).view(2, 1, 2, 4).transpose(1, 2)
    cls = head.cls + block.out(((q @ k.mT / 2).softmax(-1) @ v).transpose(1, 2).flatten(2))
    cls = cls + block.down(block.act(block.up(block.norm2(cls))))
    assert_close(head([Stage(x, Layout())], (6,)), head.norm(cls[:, 0]))
    with pytest.raises(ValueError, match="head_dim must divide dim, got dim=8, head_dim=3"):
        HEADS.create("class_attention", [8], 0, head_dim=3)
