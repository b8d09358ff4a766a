import torch
from torch.testing import assert_close

from models.ops.linear import normalised_linear_attention


def test_equals_the_matrix_of_all_pairs() -> None:
    torch.manual_seed(0)
    q, k, qn, kn = torch.rand(4, 2, 3, 11, 4, dtype=torch.float64)
    v = torch.randn(2, 3, 11, 5, dtype=torch.float64)
    weights = (q @ k.mT) / (qn @ kn.mT).sum(-1, keepdim=True)
    assert_close(normalised_linear_attention(q, k, v, qn, kn, eps=0.0), weights @ v)


def test_hidden_keys_do_not_count() -> None:
    torch.manual_seed(0)
    q, k, v = torch.rand(3, 2, 1, 11, 4, dtype=torch.float64)
    mask = torch.arange(11).expand(2, -1) < 6
    got = normalised_linear_attention(q, k, v, q, k, mask)[:, :, :6]
    alone = [t[:, :, :6] for t in (q, k, v, q, k)]
    assert_close(got, normalised_linear_attention(*alone))
