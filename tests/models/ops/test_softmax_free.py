import numpy as np
import torch
from torch.testing import assert_close

from models.ops.softmax_free import gaussian, newton_inverse, softmax_free_attention


def kernels(count: int = 2) -> torch.Tensor:
    torch.manual_seed(0)
    landmarks = torch.randn(count, 6, 4, dtype=torch.float64) * 1.5
    return gaussian(landmarks, landmarks)


def test_gaussian_is_of_distances() -> None:
    q, k = torch.randn(3, 2, dtype=torch.float64), torch.randn(5, 2, dtype=torch.float64)
    assert_close(gaussian(q, k), torch.exp(-torch.cdist(q, k).square() / 2))


def test_newton_inverse_is_numpys_pseudo_inverse_with_its_gradient() -> None:
    a = kernels().requires_grad_()
    y = newton_inverse(a)
    assert_close(y, torch.from_numpy(np.linalg.pinv(a.detach().numpy())), atol=1e-8, rtol=1e-8)
    assert torch.autograd.gradcheck(newton_inverse, (a,), atol=1e-6)
    weights = torch.randn_like(y)
    (got,) = torch.autograd.grad((y * weights).sum(), a)
    (want,) = torch.autograd.grad((torch.linalg.pinv(a) * weights).sum(), a)
    assert_close(got, want, atol=1e-6, rtol=1e-6)


def test_normalising_scales_the_inverse_from_both_sides() -> None:
    torch.manual_seed(0)
    q, v = torch.randn(2, 9, 4, dtype=torch.float64)
    landmarks = q[:3] + 0.1
    p, a = gaussian(q, landmarks), gaussian(landmarks, landmarks)
    d = torch.diag(a.sum(-1) ** -0.5)
    want = p @ d @ torch.linalg.inv(a + 0.01 * torch.eye(3)) @ d @ p.T @ v
    assert_close(softmax_free_attention(q, landmarks, v), want, atol=1e-8, rtol=1e-8)
