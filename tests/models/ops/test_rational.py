import pytest
import torch
from torch.testing import assert_close

from models.ops.rational import quotient, rational


def plain(x: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    g = x.unflatten(-1, (len(b), -1))
    p = sum(c * g**i for i, c in enumerate(a))
    q = sum(b[:, i - 1, None] * g**i for i in range(1, b.shape[1] + 1))
    return (p / (1 + q.abs())).flatten(-2)


def test_equals_the_formula_and_its_gradient() -> None:
    torch.manual_seed(0)
    x, a, b = (torch.randn(*s, dtype=torch.float64, requires_grad=True) for s in ((3, 5, 8), (6,), (4, 4)))
    grad = torch.randn(3, 5, 8, dtype=torch.float64)
    assert_close(rational(x, a, b), plain(x, a, b))
    assert_close(quotient(x.unflatten(-1, (4, -1)), a, b).flatten(-2), plain(x, a, b))
    assert_close(
        torch.autograd.grad(rational(x, a, b), (x, a, b), grad),
        torch.autograd.grad(plain(x, a, b), (x, a, b), grad),
    )


def test_zeros_can_learn() -> None:
    x, a, b = torch.randn(5, 4), torch.tensor([0.0, 1.0]), torch.zeros(2, 3, requires_grad=True)
    (grad,) = torch.autograd.grad(rational(x, a, b).square().sum(), b)
    assert grad.all()


def test_rejects_groups_that_do_not_divide_the_channels() -> None:
    with pytest.raises(ValueError, match="groups must divide the channels, got 6 channels, 4 groups"):
        rational(torch.zeros(2, 6), torch.zeros(2), torch.zeros(4, 2))
