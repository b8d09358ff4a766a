"""ecoformer: attention between binary codes that are learned."""

import pytest
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from torch import Tensor
from torch.testing import assert_close

from models import create_model
from models.layout import Layout
from models.mixers import create_mixer
from models.mixers.hashed import HashedAttention

N = 96


def clusters(seed: int = 0) -> Tensor:
    """Tokens around a few directions, as those of images are: (b, n, d)."""
    centres = torch.randn(8, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    draw = torch.Generator().manual_seed(1 + seed)
    label = torch.randint(8, (4, N), generator=draw)
    return centres[label] + 0.7 * torch.randn(4, N, 32, generator=draw, dtype=torch.float64)


def trained(seed: int = 0) -> HashedAttention:
    torch.manual_seed(seed)
    mixer = create_mixer("hashed", 32, head_dim=16).double()
    assert isinstance(mixer, HashedAttention)
    mixer.train()(clusters(), Layout())
    return mixer.eval()


def shared(mixer: HashedAttention, x: Tensor) -> Tensor:
    """Queries and keys, (b, h, n, e)."""
    return F.normalize(mixer.qk(x).unflatten(-1, (mixer.heads, -1)).transpose(1, 2), dim=-1)


def test_ecoformer_codes_are_binary_and_their_product_counts_the_bits_that_differ() -> None:
    mixer = trained()
    codes = mixer.codes(shared(mixer, clusters(1)), None)
    assert set(codes.detach().unique().tolist()) == {-1.0, 1.0}
    hamming = (codes[..., :, None, :] != codes[..., None, :, :]).sum(-1)
    assert torch.equal(codes @ codes.mT, (mixer.bits - 2 * hamming).double())


@pytest.mark.parametrize("masked", [False, True])
def test_ecoformer_equals_its_form_with_all_weights(masked: bool) -> None:
    mixer, x = trained(), clusters(1)
    mask = torch.arange(N).expand(4, -1) < 50 if masked else None
    codes = mixer.codes(shared(mixer, x), mask)
    weights = codes @ codes.mT + mixer.bits + 1
    assert weights.min() >= 1
    if mask is not None:
        weights = weights * mask[:, None, None]
    weights = weights / weights.sum(-1, keepdim=True)
    v = mixer.v(x).unflatten(-1, (mixer.heads, -1)).transpose(1, 2)
    want = mixer.out((weights @ v).transpose(1, 2).flatten(-2))
    assert_close(mixer(x, Layout(mask=mask)), want, atol=1e-10, rtol=0)


def rank_correlation(codes: Tensor, qk: Tensor) -> float:
    """Of the similarity of codes with softmax attention, over pairs of different tokens."""
    apart = ~torch.eye(N, dtype=torch.bool)
    truth = (qk @ qk.mT).softmax(-1)[..., apart]
    similar = (codes @ codes.mT)[..., apart]
    pairs = zip(similar.flatten(0, 1), truth.flatten(0, 1), strict=True)
    found = [spearmanr(a.detach().numpy(), b.detach().numpy()).statistic for a, b in pairs]
    return sum(found) / len(found)


def test_ecoformer_codes_follow_softmax_attention_better_than_random_planes() -> None:
    learned, random = [], []
    for seed in range(3):
        mixer = trained(seed)
        qk = shared(mixer, clusters(1))  # tokens that it has not seen
        learned.append(rank_correlation(mixer.codes(qk, None), qk))
        planes = torch.randn(mixer.heads, 16, mixer.bits, dtype=torch.float64)
        random.append(rank_correlation((qk @ planes).sign(), qk))
    assert min(learned) > 0.5
    assert min(learned) > max(random)


def test_ecoformer_model_learns_its_codes_in_training() -> None:
    torch.manual_seed(0)
    model = create_model("ecoformer_nano").train()
    hashed = [m for m in model.modules() if isinstance(m, HashedAttention)]
    assert len(hashed) == 2
    model(torch.randn(2, 3, 48, 48)).square().sum().backward()
    assert all(m.learned for m in hashed)
    assert all(m.qk.weight.grad is not None and m.qk.weight.grad.any() for m in hashed)
