"""Attention by a Gaussian kernel of low rank, whose inverse takes matrix products only."""

import torch
from jaxtyping import Float
from torch import Tensor


def gaussian(q: Float[Tensor, "*s n e"], k: Float[Tensor, "*s m e"]) -> Float[Tensor, "*s n m"]:
    """exp(-|q_i - k_j|^2 / 2) of every pair."""
    squares = q.square().sum(-1, keepdim=True) + k.square().sum(-1, keepdim=True).mT
    return torch.exp(q @ k.mT - squares / 2)


def newton_inverse(matrix: Float[Tensor, "*s m m"], *, steps: int = 20) -> Float[Tensor, "*s m m"]:
    """Inverse of symmetric positive matrices by Newton and Raphson: Y <- 2 Y - Y A Y, from 2 A / |A|_1^2.

    One more step, the only one that is differentiated, gives the gradient of the inverse itself,
    dY = -Y dA Y, where Y has converged. A singular matrix tends to its pseudo-inverse.
    Source: Lu et al., 2021, arXiv:2110.11945, algorithm 1 and proposition 1, eq. 11.
    """
    with torch.no_grad():
        largest = matrix.abs().sum(-1).amax(-1)[..., None, None]
        y = 2 / largest.square() * matrix
        for _ in range(steps):
            y = 2 * y - y @ matrix @ y
    return 2 * y - y @ matrix @ y


def softmax_free_attention(
    q: Float[Tensor, "*s n e"],
    landmarks: Float[Tensor, "*s m e"],
    v: Float[Tensor, "*s n f"],
    *,
    normalised: bool = True,
    ridge: float = 0.01,
    steps: int = 20,
) -> Float[Tensor, "*s n f"]:
    """P (D^-1/2 (A + ridge)^-1 D^-1/2) P^T v,  P = gaussian(q, l), A = gaussian(l, l), D its row sums.

    Time O(n m e + m^3), no n x n. Without D and ridge, with q itself as landmarks, it is gaussian(q, q) v.
    Source: Lu et al., 2022, arXiv:2207.03341, eq. 8 and 20; the ridge is in their code.
    """
    toward, among = gaussian(q, landmarks), gaussian(landmarks, landmarks)
    identity = torch.eye(among.shape[-1], dtype=among.dtype, device=among.device)
    inverse = newton_inverse(among + ridge * identity, steps=steps)
    if normalised:
        root = among.sum(-1, keepdim=True).rsqrt()
        inverse = root * inverse * root.mT
    return (toward @ inverse) @ (toward.mT @ v)
