import pytest
import torch

from models.layout import Layout
from models.mixers.scattered_linear import ScatteredLinearAttention

SMALL = [{"window": 3, "cells": 12}]


def test_windows_reach_over_all_heights_and_no_further() -> None:
    torch.manual_seed(0)
    mixer = ScatteredLinearAttention(32, window=2, cells=4).double()
    coords = torch.tensor([[[-0.9, -0.9, -1.0], [-0.1, -0.1, 1.0], [0.1, -0.1, -1.0]]]).double()
    x = torch.randn(1, 3, 32, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(mixer(x, Layout(coords=coords))[0, 0].sum(), x)
    assert grad[0, 1].any()
    assert not grad[0, 2].any()


def test_rejects_a_layout_without_coords() -> None:
    with pytest.raises(ValueError, match="scattered_linear needs coords in the layout, got none"):
        ScatteredLinearAttention(32)(torch.zeros(1, 4, 32), Layout())
