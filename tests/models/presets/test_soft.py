"""soft: landmarks at all tokens give the whole Gaussian kernel; its inverse is the pseudo-inverse."""

from typing import Any

import numpy as np
import torch
from torch.testing import assert_close

from models import create_model
from models.layout import Layout
from models.mixers.softmax_free import SoftmaxFreeAttention
from models.ops.flops import count_flops
from models.ops.softmax_free import gaussian, newton_inverse, softmax_free_attention


def test_soft_with_all_tokens_as_landmarks_is_the_whole_kernel() -> None:
    torch.manual_seed(0)
    q = torch.randn(2, 12, 6, dtype=torch.float64)
    v = torch.randn(2, 12, 5, dtype=torch.float64)
    scores = torch.zeros(2, 12, 12, dtype=torch.float64)
    for i in range(12):
        for j in range(12):
            scores[:, i, j] = torch.exp(-(q[:, i] - q[:, j]).square().sum(-1) / 2)
    got = softmax_free_attention(q, q, v, normalised=False, ridge=0.0, steps=40)
    assert_close(got, scores @ v, atol=1e-8, rtol=1e-8)


def test_soft_inverse_equals_numpys_and_so_does_its_gradient() -> None:
    torch.manual_seed(0)
    landmarks = torch.randn(3, 9, 8, dtype=torch.float64)
    a = gaussian(landmarks, landmarks).requires_grad_()
    y = newton_inverse(a)
    assert_close(y, torch.from_numpy(np.linalg.pinv(a.detach().numpy())), atol=1e-6, rtol=1e-6)
    assert torch.autograd.gradcheck(newton_inverse, (a,), atol=1e-5)
    weights = torch.randn_like(y)
    (got,) = torch.autograd.grad((y * weights).sum(), a)
    (want,) = torch.autograd.grad((torch.linalg.pinv(a) * weights).sum(), a)
    assert_close(got, want, atol=1e-5, rtol=1e-5)


def test_soft_costs_four_times_as_much_for_four_times_the_tokens_and_as_many_landmarks() -> None:
    def flops(side: int, ratio: int) -> int:
        mixer = SoftmaxFreeAttention(16, head_dim=8, ratio=ratio)
        with torch.no_grad():
            return count_flops(lambda: mixer(torch.zeros(1, side * side, 16), Layout(grid=(side, side))))

    assert flops(32, 4) < 5 * flops(16, 2)  # 8 x 8 landmarks in both


def test_soft_holds_less_than_five_times_as_much_for_four_times_the_tokens(memory: Any) -> None:
    def held(side: int, ratio: int) -> tuple[int, int]:
        mixer = SoftmaxFreeAttention(16, head_dim=8, ratio=ratio)
        x = torch.rand(1, side * side, 16, requires_grad=True)
        found: tuple[int, int] = memory(lambda: mixer(x, Layout(grid=(side, side))).sum().backward())
        return found

    (whole, largest), (more, larger) = held(16, 2), held(32, 4)
    assert more < 5 * whole
    assert larger < 5 * largest


def test_soft_answers_from_a_class_token_of_the_last_stage() -> None:
    torch.manual_seed(0)
    model = create_model("soft_nano").eval()
    stages = model.features(torch.randn(2, 3, 50, 67))
    assert [stage.layout.grid for stage in stages] == [(13, 17), (7, 9), (4, 5)]
    assert [stage.prefix is None for stage in stages] == [True, True, False]
    assert stages[2].prefix is not None
    assert stages[2].prefix.shape == (2, 1, 128)
    assert stages[2].map().shape == (2, 128, 4, 5)
