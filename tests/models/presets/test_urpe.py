"""urpe: a Toeplitz matrix behind the softmax."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from models.layout import Layout
from models.mixers.scored_attention import ScoredAttention

N = 8


def mixer(*scores: str) -> ScoredAttention:
    torch.manual_seed(0)
    parts = [{"name": score, "grid": (N,)} for score in scores]
    made = ScoredAttention(8, head_dim=4, scores=parts).double()
    for name, parameter in made.named_parameters():
        if name.startswith("scores.0"):  # the bias; the gain stays as it starts
            torch.nn.init.normal_(parameter)
    return made


def test_urpe_with_a_gain_of_one_is_attention_with_relative_positions() -> None:
    urpe = mixer("relative", "toeplitz")
    assert (urpe.scores[1].table.weight == 1).all()
    x = torch.randn(2, N, 8, dtype=torch.float64)
    q, k, v = (t.unflatten(-1, (2, 4)).transpose(1, 2) for t in urpe.qkv(x).chunk(3, -1))
    place = torch.arange(N)
    bias = urpe.scores[0].table.weight[place[:, None] - place + N - 1].permute(2, 0, 1)
    want = F.scaled_dot_product_attention(q, k, v, attn_mask=bias[None])
    assert_close(urpe(x, Layout()), urpe.out(want.transpose(1, 2).flatten(-2)), atol=1e-12, rtol=0)


def fit(made: ScoredAttention) -> tuple[Tensor, Tensor]:
    """What identical tokens become after training towards [1, 2, .. N] in every channel, and the target."""
    x = torch.randn(1, 1, 8, dtype=torch.float64).expand(-1, N, -1)
    target = torch.arange(1.0, N + 1, dtype=torch.float64)[None, :, None].expand(1, N, 8)
    optimiser = torch.optim.LBFGS(made.parameters(), max_iter=300, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = (made(x, Layout()) - target).square().mean()
        value.backward()
        return value

    optimiser.step(loss)
    return made(x, Layout()).detach(), target


def test_urpe_counts_identical_tokens_where_relative_positions_cannot() -> None:
    answer, target = fit(mixer("relative", "toeplitz"))
    assert_close(answer, target, atol=1e-3, rtol=0)
    answer, target = fit(mixer("relative"))
    assert answer.std(dim=1).max() < 1e-9, "the same answer at every position, whatever is learned"
    assert (answer - target).abs().max() > 1


def test_urpe_has_two_n_minus_one_numbers_a_head() -> None:
    assert mixer("toeplitz").scores[0].table.weight.shape == (2 * N - 1, 2)
