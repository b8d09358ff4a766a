"""Group-rational KAN: learned rational functions before linear maps, in place of a fixed one between them."""

import math

import torch
from torch import Tensor, nn

from models.channels.base import CHANNELS, ChannelMixer
from models.layout import Layout, Tokens
from models.ops.rational import rational
from models.registry import suggest

# Least squares on [-10, 10], within 0.004 of the function on [-3, 3]: a_0 .. a_5; b_1 .. b_4.
FITS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "identity": ((0.0, 1.0, 0.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0)),
    "gelu": (
        (-0.002576, 0.5, 0.415815, 0.121779, 0.014831, 0.000637),
        (0.000042, 0.243526, 0.000006, 0.001273),
    ),
    "silu": ((0.0, 0.5, 0.24998, 0.05301, 0.00569, 0.00026), (0.0, 0.10602, 0.0, 0.00052)),
}
# 1 / E[f(x)^2] for x ~ N(0, 1): what keeps the variance of the linear map behind
GAINS = {"identity": 1.0, "gelu": 2.3525, "silu": 2.8115}


class GroupRational(nn.Module):
    """F(x) = P(x) / (1 + |Q_g(x)|): P of degree 5 for all channels, Q of degree 4 for each of `groups`."""

    def __init__(self, dim: int, groups: int, fit: str) -> None:
        super().__init__()
        if fit not in FITS:
            raise LookupError(f"no fit of {fit!r}; did you mean one of {suggest(fit, FITS)}?")
        if groups < 1 or dim % groups:
            raise ValueError(f"groups must divide the channels, got {dim} channels, groups={groups}")
        a, b = FITS[fit]
        self.a = nn.Parameter(torch.tensor(a))
        self.b = nn.Parameter(torch.tensor(b).expand(groups, -1).clone())

    def forward(self, x: Tensor) -> Tensor:
        return rational(x, self.a, self.b)


@CHANNELS.register
class GroupRationalKan(ChannelMixer):
    """y = W2 F2(W1 F1(x)), hidden width dim * ratio; F1 starts as the identity, F2 as `act`.

    Weights start with the variance gain / inputs, which keeps that of the tokens.
    Paper: Yang and Wang, 2024, arXiv:2409.10594, sec. 4: rational base functions, shared by groups (the
        numerator by all, as its count of parameters says), variance-preserving start. Departs from it: the
        paper's code starts these weights at a deviation of 0.02, and takes |b_i x^i| one by one.
    """

    def __init__(self, dim: int, *, ratio: float = 4.0, groups: int = 8, act: str = "gelu") -> None:
        super().__init__()
        hidden = int(dim * ratio)
        self.rational1, self.up = GroupRational(dim, groups, "identity"), nn.Linear(dim, hidden)
        self.rational2, self.down = GroupRational(hidden, groups, act), nn.Linear(hidden, dim)
        self.gain = GAINS[act]
        self.restart()

    def restart(self) -> None:
        """Draw the linear maps anew."""
        for linear, gain in ((self.up, 1.0), (self.down, self.gain)):
            nn.init.normal_(linear.weight, std=math.sqrt(gain / linear.in_features))
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        return self.down(self.rational2(self.up(self.rational1(x))))
