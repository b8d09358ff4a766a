"""Every norm keeps the promises of Norm."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from models.layout import Layout
from models.norms.base import NORMS, Norm

B, N, D = 2, 30, 32


@pytest.fixture(params=NORMS.names())
def norm(request: pytest.FixtureRequest) -> Norm:
    torch.manual_seed(0)
    norm = NORMS.create(request.param, D).double().eval()
    for parameter in norm.parameters():
        torch.nn.init.normal_(parameter)
    return norm


def tokens() -> Tensor:
    return torch.randn(B, N, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 3 + 1


def test_keeps_shape_and_rows_apart(norm: Norm) -> None:
    x = tokens()
    y = norm(x, Layout())
    assert y.shape == x.shape
    assert_close(y[:1], norm(x[:1], Layout()))


def test_masking_the_end_equals_removing_it(norm: Norm) -> None:
    x, mask = tokens(), torch.arange(N).expand(B, -1) < 20
    assert_close(norm(x, Layout(mask=mask))[:, :20], norm(x[:, :20], Layout()))


def test_masked_tokens_do_not_count_in_training(norm: Norm) -> None:
    x, mask = tokens(), torch.arange(N).expand(B, -1) < 20
    other = torch.where(mask[..., None], x, x + 100)
    assert_close(norm.train()(x, Layout(mask=mask))[mask], norm(other, Layout(mask=mask))[mask])


def test_every_parameter_gets_a_gradient(norm: Norm) -> None:
    norm(tokens(), Layout()).square().sum().backward()
    assert not [name for name, p in norm.named_parameters() if p.grad is None or not p.grad.any()]


def test_norms_equal_torchs_own() -> None:
    x = tokens()
    layer, batch, group = (NORMS.create(name, D).double() for name in ("layer", "batch", "group"))
    assert_close(layer(x, Layout()), F.layer_norm(x, (D,)))
    assert_close(group(x, Layout()), F.group_norm(x.mT, 1).mT)
    assert_close(batch(x, Layout()), F.batch_norm(x.mT, None, None, training=True).mT)
