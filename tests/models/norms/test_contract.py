"""Every norm keeps the promises of Norm."""

from typing import Any

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
    for n in (1, 2, 7, 30):
        x = tokens()[:, :n]
        y = norm(x, Layout())
        assert y.shape == x.shape
        assert y.isfinite().all()
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


@pytest.mark.compile
@pytest.mark.parametrize("training", [False, True])
def test_compiles_to_one_graph_and_exports(norm: Norm, training: bool, one_graph: Any, exports: Any) -> None:
    norm.train(training)
    for mask in (None, torch.arange(N).expand(B, -1) < 20):
        layout = Layout(mask=mask)
        one_graph(norm, lambda part, x, layout=layout: part(x, layout), tokens())
        exports(norm, lambda part, x, layout=layout: part(x, layout), tokens())


def test_builds_on_the_meta_device() -> None:
    for name in NORMS.names():
        with torch.device("meta"):
            assert all(p.is_meta for p in NORMS.create(name, D).parameters())


def test_a_masked_batch_norm_learns_from_real_tokens_as_torchs_own_does() -> None:
    mask = torch.rand(B, N, generator=torch.Generator().manual_seed(2)) < 0.6
    ours, torchs = NORMS.create("batch", D).double(), torch.nn.BatchNorm1d(D).double()
    for x in (tokens(), 2 * tokens() - 1):
        x.requires_grad_()
        (ours(torch.where(mask[..., None], x, torch.inf), Layout(mask=mask))[mask] ** 3).sum().backward()
        got, x.grad = x.grad, None
        (torchs(x[mask]) ** 3).sum().backward()
        assert_close(got, x.grad)
    theirs = torchs.state_dict()
    assert_close({key: ours.state_dict()[f"stats.{key}"] for key in theirs}, theirs)
    assert_close(ours.stats.weight.grad, torchs.weight.grad)


def test_norms_equal_torchs_own() -> None:
    x = tokens()
    layer, batch, group = (NORMS.create(name, D).double() for name in ("layer", "batch", "group"))
    assert_close(layer(x, Layout()), F.layer_norm(x, (D,)))
    assert_close(group(x, Layout()), F.group_norm(x.mT, 1).mT)
    assert_close(batch(x, Layout()), F.batch_norm(x.mT, None, None, training=True).mT)
