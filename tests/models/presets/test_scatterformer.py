"""scatterformer: linear attention in windows of any size, no padding."""

import torch
from torch import Tensor
from torch.testing import assert_close

from models import create_model
from models.layout import Layout
from models.mixers import create_mixer
from models.ops.scattered import scattered_linear

SIZES = [1, 1000, 0, 17, 64, 0, 2, 333, 31]  # tokens of each window


def scattered(heads: int = 2, size: int = 4) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    window = torch.repeat_interleave(torch.arange(len(SIZES)), torch.tensor(SIZES))
    window = window[torch.randperm(len(window), generator=draw)]
    q, k, v = torch.randn(3, len(window), heads, size, dtype=torch.float64, generator=draw)
    return q.relu(), k.relu(), v, window


def test_scatterformer_equals_a_loop_over_windows() -> None:
    q, k, v, window = scattered()
    want = torch.zeros_like(v)
    for w in range(len(SIZES)):
        inside = window == w
        weights = torch.einsum("nhe,mhe->hnm", q[inside], k[inside])
        weights = weights / (weights.sum(-1, keepdim=True) + 1e-6)
        want[inside] = torch.einsum("hnm,mhe->nhe", weights, v[inside])
    assert_close(scattered_linear(q, k, v, window, len(SIZES)), want, atol=1e-10, rtol=0)


def test_scatterformer_permuting_voxels_permutes_outputs() -> None:
    q, k, v, window = scattered()
    order = torch.randperm(len(window))
    got = scattered_linear(q[order], k[order], v[order], window[order], len(SIZES))
    assert_close(got, scattered_linear(q, k, v, window, len(SIZES))[order], atol=1e-12, rtol=0)


def test_scatterformer_keeps_no_tensor_of_padded_windows() -> None:
    heads, size = 4, 8
    q, k, v, window = (t.requires_grad_() if t.is_floating_point() else t for t in scattered(heads, size))
    largest = 0

    def watch(tensor: Tensor) -> Tensor:
        nonlocal largest
        largest = max(largest, tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(watch, lambda tensor: tensor):
        scattered_linear(q, k, v, window, len(SIZES))
    n, d, w = len(window), heads * size, len(SIZES)
    bound = 2 * (n * d + (w + 1) * d * size)
    assert largest <= bound
    assert bound < w * max(SIZES) * d, "padded windows would not fit"
    assert bound < n * d * size, "a product for each token would not fit"


def test_scatterformer_passes_gradcheck() -> None:
    draw = torch.Generator().manual_seed(0)
    q, k, v = torch.rand(3, 9, 2, 2, dtype=torch.float64, generator=draw) + 0.1
    window = torch.tensor([0, 3, 3, 0, 3, 3, 1, 3, 0])
    inputs = tuple(t.requires_grad_() for t in (q, k, v))
    assert torch.autograd.gradcheck(lambda *t: scattered_linear(*t, window, 4), inputs)


def test_scatterformer_windows_never_mix_samples() -> None:
    torch.manual_seed(0)
    mixer = create_mixer("scattered_linear", 32, window=3, cells=6).double()
    x = torch.randn(2, 40, 32, dtype=torch.float64, requires_grad=True)
    coords = torch.rand(1, 40, 3, dtype=torch.float64).expand(2, -1, -1) * 2 - 1  # the same windows
    (grad,) = torch.autograd.grad(mixer(x, Layout(coords=coords))[0].square().sum(), x)
    assert grad[0].any()
    assert not grad[1].any()


def test_scatterformer_convolutions_cross_windows() -> None:
    torch.manual_seed(0)
    model = create_model("scatterformer_nano", num_classes=0).double().eval()
    block, layout = (
        model.backbone.blocks[0],
        Layout(coords=torch.tensor([[[-0.55, 0, 0], [-0.45, 0, 0]]]).double()),
    )
    x = torch.randn(1, 2, 64, dtype=torch.float64, requires_grad=True)
    inside = block.mixer(x, layout)[0, 0].sum()
    assert not torch.autograd.grad(inside, x)[0][0, 1].any(), "the two points lie in two windows"
    across = block(x, layout)[0, 0].sum()
    assert torch.autograd.grad(across, x)[0][0, 1].any()
