"""Squeeze and excitation: a gate for each channel, made of the mean over all tokens."""

from torch import nn

from models.layers.activations import activation
from models.layout import Layout, Tokens


class SqueezeExcitation(nn.Module):
    """x * sigmoid(W2 act(W1 mean(x))); hidden tokens do not count.

    Paper: Hu et al., 2017, arXiv:1709.01507, eq. 2-4.
    """

    def __init__(self, dim: int, hidden: int, *, act: str = "relu") -> None:
        super().__init__()
        self.squeeze, self.act = nn.Linear(dim, hidden), activation(act)
        self.excite = nn.Linear(hidden, dim)

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        if layout.mask is None:
            mean = x.mean(1, keepdim=True)
        else:
            real = layout.mask[..., None].to(x.dtype)
            mean = (x * real).sum(1, keepdim=True) / real.sum(1, keepdim=True).clamp(min=1)
        return x * self.excite(self.act(self.squeeze(mean))).sigmoid()
