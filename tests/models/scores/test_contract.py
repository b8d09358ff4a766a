"""Every score keeps the promises of Score."""

import pytest
import torch
from torch.testing import assert_close

from models.layout import Layout
from models.mixers.scored_attention import ScoredAttention
from models.scores.base import SCORES


@pytest.mark.parametrize("name", SCORES.names())
def test_gives_what_attention_can_use(name: str) -> None:
    torch.manual_seed(0)
    score = SCORES.create(name, 2, 1).double()
    layout, n = Layout(prefix=1), 9
    q, k = torch.randn(2, 3, 2, n, 8, dtype=torch.float64)
    turned = score.turn(q, k, layout)
    assert turned[0].shape == turned[1].shape == q.shape
    assert_close(turned[0][:, :, 0], q[:, :, 0], msg="a class token lies nowhere")
    for table, plain in ((score.bias(layout, n), 0.0), (score.gain(layout, n), 1.0)):
        if table is not None:
            assert table.shape == (2, n, n)
            assert (table[:, 0] == plain).all()
            assert (table[:, :, 0] == plain).all()
    changes = [turned[0] is not q, score.bias(layout, n) is not None, score.gain(layout, n) is not None]
    assert any(changes), "a score changes something"


@pytest.mark.parametrize("name", SCORES.names())
def test_every_parameter_gets_a_gradient(name: str) -> None:
    torch.manual_seed(0)
    mixer = ScoredAttention(16, head_dim=8, scores=(name,))
    mixer(torch.randn(2, 9, 16), Layout()).square().sum().backward()
    assert not [key for key, p in mixer.named_parameters() if p.grad is None or not p.grad.any()]


def test_rejects_a_table_of_other_axes() -> None:
    with pytest.raises(ValueError, match=r"grid must be 2 positive sizes, got \(64,\)"):
        SCORES.create("relative", 2, 2)
