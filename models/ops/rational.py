"""Rational functions without poles, coefficients shared by groups of channels."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def rational(
    x: Float[Tensor, "*s d"], a: Float[Tensor, " p"], b: Float[Tensor, "g q"]
) -> Float[Tensor, "*s d"]:
    """P(x) / (1 + |Q(x)|), P = a_0 + a_1 x + ..., Q = b_1 x + b_2 x^2 + ...; one Q for a group of channels.

    The slope of |Q| at Q = 0 is taken as 1, so that zeros can learn. The backward keeps x alone; a compiler
    sees the formula instead, and decides by itself what to keep.
    Source: Yang and Wang, 2024, arXiv:2409.10594, eq. 9 and appendix.
    """
    if x.shape[-1] % len(b):
        raise ValueError(f"groups must divide the channels, got {x.shape[-1]} channels, {len(b)} groups")
    groups = x.unflatten(-1, (len(b), -1))
    y: Tensor = quotient(groups, a, b) if torch.compiler.is_compiling() else Rational.apply(groups, a, b)
    return y.flatten(-2)


def quotient(x: Float[Tensor, "*s g m"], a: Tensor, b: Tensor) -> Tensor:
    """The formula, groups apart."""
    q = x * polynomial(x, b)
    return polynomial(x, a) / (1 + torch.where(q < 0, -q, q))


class Rational(torch.autograd.Function):
    """x is (*s, g, m)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(x, a, b)
        return quotient(x, a, b)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, a, b = ctx.saved_tensors
        (grad,) = grads
        p, inner = polynomial(x, a), polynomial(x, b)
        q = x * inner
        sign = torch.where(q < 0, -1.0, 1.0).to(x.dtype)
        whole = 1 / (1 + q.abs())
        over, under = grad * whole, -grad * p * sign * whole.square()
        slope_q = inner + x * polynomial(x, derivative(b))
        grad_x = over * polynomial(x, derivative(a)) + under * slope_q
        grad_a, grad_b = torch.empty_like(a), torch.empty_like(b)
        power = torch.ones_like(x)
        for i in range(max(len(a), b.shape[1] + 1)):
            if i < len(a):
                grad_a[i] = (over * power).sum()
            if 1 <= i <= b.shape[1]:
                grad_b[:, i - 1] = (under * power).transpose(-2, 0).flatten(1).sum(1)
            power = power * x
        return grad_x, grad_a, grad_b


def polynomial(x: Float[Tensor, "*s g m"], c: Tensor) -> Tensor:
    """c_0 + c_1 x + ..., with c (p) for all groups or (g, p)."""
    y = c[..., -1, None].expand_as(x)
    for i in range(c.shape[-1] - 2, -1, -1):
        y = y * x + c[..., i, None]
    return y


def derivative(c: Tensor) -> Tensor:
    """Coefficients of the derivative."""
    powers = torch.arange(1, c.shape[-1], device=c.device, dtype=c.dtype)
    return c[..., 1:] * powers
