"""Binary codes of vectors, learned so that similar vectors share bits."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

STEP = 0.05  # of a bit's weights, relative to their length


def kernel_values(
    x: Float[Tensor, "b h n e"], supports: Float[Tensor, "h m e"], real: Bool[Tensor, "b n"] | None
) -> Float[Tensor, "b h n m"]:
    """exp(-|x - s|^2 / (2 t)), t the mean of the squares over a head's tokens and supports."""
    square = x.square().sum(-1, keepdim=True) + supports.square().sum(-1)[:, None] - 2 * x @ supports.mT
    square = square.clamp(min=0)
    if real is None:
        mean = square.mean((-1, -2), keepdim=True)
    else:
        weight = real[:, None, :, None].to(x.dtype)
        count = weight.sum(2, keepdim=True).clamp(min=1) * square.shape[-1]
        mean = (square * weight).sum((-1, -2), keepdim=True) / count
    return torch.exp(-square / (2 * mean.clamp(min=torch.finfo(x.dtype).tiny)))


def pairs(x: Float[Tensor, "b h n e"], count: int, real: Bool[Tensor, "b n"]) -> Float[Tensor, "b h n n"]:
    """1 for the `count` most similar tokens of each, -1 for as many of the least similar, else 0."""
    both = (real[:, None, :, None] & real[:, None, None, :]).to(x.dtype)
    similar = x @ x.mT

    def chosen(beyond: float, largest: bool) -> Tensor:
        found = similar.masked_fill(both == 0, beyond).topk(count, largest=largest).indices
        return F.one_hot(found, x.shape[2]).sum(-2)

    most, least = chosen(-torch.inf, True), chosen(torch.inf, False)
    return (most - least).to(x.dtype) * both


def learn_bits(
    values: Float[Tensor, "b h n m"], target: Float[Tensor, "b h n n"], bits: int, steps: int
) -> Float[Tensor, "h r m"]:
    """Weights whose signs y = sign(values a) maximise the sum of y_i y_j target_ij, one bit after the other.

    Each bit starts at the best direction of the relaxed problem and follows the slope of a smooth sign; what
    it explains is taken from the target of the next.
    Source: Liu et al., Supervised hashing with kernels, 2012, sec. 3.2-3.3, as in Liu et al., 2022,
    arXiv:2209.09004, sec. 4.2.
    """
    left = target * bits
    gram = torch.einsum("bhnm,bhnl->hml", values, values)
    scale = gram.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None].clamp(min=1e-12)
    root = torch.linalg.cholesky(gram / scale + 1e-4 * torch.eye(gram.shape[-1], device=gram.device))
    found = []
    for _ in range(bits):
        relaxed = torch.einsum("bhnm,bhnk,bhkl->hml", values, left, values)
        inner = torch.linalg.solve_triangular(root, relaxed, upper=False)
        inner = torch.linalg.solve_triangular(root, inner.mT, upper=False)
        best = torch.linalg.eigh((inner + inner.mT) / 2).eigenvectors[..., -1:]
        a = torch.linalg.solve_triangular(root.mT, best, upper=True)[..., 0]
        a = a / torch.einsum("bhnm,hm->bhn", values, a).square().mean((0, 2)).sqrt().clamp(min=1e-12)[:, None]
        a = _follow(values, left, a, steps)
        found.append(a)
        y = torch.where(torch.einsum("bhnm,hm->bhn", values, a) > 0, 1.0, -1.0).to(values.dtype)
        left = left - y[..., :, None] * y[..., None, :]
    return torch.stack(found, 1)


def _follow(values: Tensor, left: Tensor, a: Float[Tensor, "h m"], steps: int) -> Float[Tensor, "h m"]:
    """The best of `a` and of what steps uphill make of it, for each head."""

    def gain(a: Tensor) -> Tensor:
        y = torch.where(torch.einsum("bhnm,hm->bhn", values, a) > 0, 1.0, -1.0).to(values.dtype)
        return torch.einsum("bhn,bhnk,bhk->h", y, left, y)

    best, top = a, gain(a)
    for _ in range(steps):
        y = torch.tanh(torch.einsum("bhnm,hm->bhn", values, a) / 2)
        slope = torch.einsum("bhnk,bhk->bhn", left, y) * (1 - y.square())
        up = torch.einsum("bhn,bhnm->hm", slope, values)
        a = a + STEP * a.norm(dim=-1, keepdim=True) * F.normalize(up, dim=-1)
        now = gain(a)
        best, top = torch.where((now > top)[:, None], a, best), torch.maximum(now, top)
    return best
