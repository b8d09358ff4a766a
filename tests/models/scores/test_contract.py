"""Every score keeps the promises of Score."""

from typing import Any

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


@pytest.mark.parametrize("name", SCORES.names())
def test_keeps_rows_apart_at_odd_sizes_and_masking_equals_removing(name: str) -> None:
    torch.manual_seed(0)
    mixer = ScoredAttention(16, head_dim=8, scores=(name,)).double()
    for parameter in mixer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)  # tables start at one number
    for n in (1, 2, 7, 33):
        x = torch.randn(2, n, 16, dtype=torch.float64)
        y = mixer(x, Layout())
        assert y.shape == x.shape
        assert_close(y[:1], mixer(x[:1], Layout()))
        if n > 1:
            mask = torch.arange(n).expand(2, -1) < n - 1
            assert_close(mixer(x, Layout(mask=mask))[:, :-1], mixer(x[:, :-1], Layout()))


@pytest.mark.compile
@pytest.mark.parametrize("name", SCORES.names())
def test_compiles_to_one_graph_and_exports(name: str, one_graph: Any, exports: Any) -> None:
    torch.manual_seed(0)
    score, layout = SCORES.create(name, 2, 1).double(), Layout(prefix=1)

    def parts(score: Any, q: torch.Tensor, k: torch.Tensor) -> list[torch.Tensor]:
        tables = [table(layout, q.shape[2]) for table in (score.bias, score.gain)]
        return [*score.turn(q, k, layout), *(table for table in tables if table is not None)]

    q, k = torch.randn(2, 3, 2, 9, 8, dtype=torch.float64)
    one_graph(score, parts, q, k)
    exports(score, parts, q, k)


@pytest.mark.parametrize("name", SCORES.names())
def test_builds_on_the_meta_device(name: str) -> None:
    with torch.device("meta"):
        assert all(p.is_meta for p in SCORES.create(name, 2, 1).parameters())


def test_rejects_a_table_of_other_axes() -> None:
    with pytest.raises(ValueError, match=r"grid must be 2 positive sizes, got \(64,\)"):
        SCORES.create("relative", 2, 2)
