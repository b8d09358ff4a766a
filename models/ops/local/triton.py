"""Local attention that reads the raster where it lies: no roll, no partition, no mask in memory."""

import importlib.util
import math
from typing import Any

import torch
from torch import Tensor

from models.ops.dispatch import Facts
from models.ops.local.windows import Windows

CHUNKS = 64  # partial sums of the bias gradient: few enough to store, enough to fill a GPU


def refuses(facts: Facts) -> str | None:
    """Why the kernel cannot serve these facts."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    if facts.device != "cuda":
        return f"it needs a CUDA device, got {facts.device}"
    if facts.dtype not in (torch.float16, torch.bfloat16, torch.float32):
        return f"it computes in float16, bfloat16 or float32, got {facts.dtype}"
    if facts.head_dim > 128:
        return f"heads have at most 128 channels, got {facts.head_dim}"
    if facts.padded:
        return "what lies beyond the raster takes part, and is not in memory"
    return None


def run(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    table: Tensor | None,
    windows: Windows,
    *,
    mask: Tensor | None = None,
    pad: tuple[Tensor, Tensor] | None = None,
    scale: float | None = None,
) -> Tensor:
    """See `local_attention`."""
    if pad is not None:
        raise ValueError("the triton backend knows no tokens beyond the raster")
    axes = 3 - len(windows.size)
    lead = (1,) * axes
    q, k, v = (t[(slice(None), *(None,) * axes)] for t in (q, k, v))  # (b, t, h, w, heads, e)
    grid = q.shape[1:4]
    size, largest = [*lead, *windows.size], [*lead, *windows.largest]
    shift, strided = [0] * axes + [*windows.shift], [0] * axes + [int(s) for s in windows.strided]
    hidden = None if mask is None else (~mask).view(-1, *grid)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    y, _ = forward(q, k, v, table, hidden, size, shift, strided, largest, scale)
    return y[(slice(None), *(0,) * axes)]


@torch.library.custom_op("rayloom::local_attention", mutates_args=())
def forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    table: Tensor | None,
    hidden: Tensor | None,
    size: list[int],
    shift: list[int],
    strided: list[int],
    largest: list[int],
    scale: float,
) -> tuple[Tensor, Tensor]:
    """Output (b, t, h, w, heads, e), and the log of each softmax's denominator, (b, t, h, w, heads)."""
    from models.ops.local import _kernels as kernels

    y = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    lse = torch.empty(q.shape[:-1], dtype=torch.float32, device=q.device)
    sizes = Sizes(q, size, shift, strided, largest)
    if table is not None:
        table = table.contiguous()
    kernels.forward[(sizes.blocks * sizes.windows, q.shape[0] * q.shape[4])](
        *(q, k, v, y, lse, table, hidden, scale),
        *(*strides(q), *strides(k), *strides(v), *strides(y)),
        **sizes.constants(table, hidden),
    )
    return y, lse


@forward.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape), q.new_empty(q.shape[:-1], dtype=torch.float32)


@torch.library.custom_op("rayloom::local_attention_backward", mutates_args=())
def backward(
    dy: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    y: Tensor,
    lse: Tensor,
    table: Tensor | None,
    hidden: Tensor | None,
    size: list[int],
    shift: list[int],
    strided: list[int],
    largest: list[int],
    scale: float,
    bias_grad: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v and the table (empty unless wanted). The order of every sum is fixed."""
    from models.ops.local import _kernels as kernels

    dy = dy.contiguous()  # dq, dk and dv lie like dy
    delta = (dy.float() * y.float()).sum(-1)
    dq, dk, dv = (torch.empty(q.shape, dtype=q.dtype, device=q.device) for _ in range(3))
    sizes = Sizes(q, size, shift, strided, largest)
    if table is not None:
        table = table.contiguous()
    constants = sizes.constants(table, hidden)
    given = (q, k, v, dy, lse, delta, table, hidden, scale)
    places = (*strides(q), *strides(k), *strides(v), *strides(dy))
    grid = (sizes.blocks * sizes.windows, q.shape[0] * q.shape[4])
    kernels.backward_q[grid](*given, dq, *places, **constants)
    kernels.backward_kv[grid](*given, dk, dv, *places, **constants)
    dtable = q.new_zeros(0)
    if table is not None and bias_grad:
        rounds = q.shape[0] * sizes.windows
        turns = -(-rounds // min(CHUNKS, rounds))
        chunks = -(-rounds // turns)
        n = sizes.blocks * sizes.block
        partial = torch.empty(chunks, q.shape[4], n, n, dtype=torch.float32, device=q.device)
        kernels.backward_bias[(sizes.blocks**2, q.shape[4], chunks)](
            *given, partial, rounds, *places, **constants, TURNS=turns
        )
        real = math.prod(size)
        dtable = to_table(partial.sum(0)[:, :real, :real], size, largest).to(table.dtype)
    return dq, dk, dv, dtable


@backward.register_fake
def _(dy: Tensor, q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    table, bias_grad = rest[2], rest[-1]
    empty = q.new_empty(table.shape, dtype=table.dtype) if table is not None and bias_grad else q.new_empty(0)
    return q.new_empty(q.shape), q.new_empty(q.shape), q.new_empty(q.shape), empty


def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, table, hidden, *rest = inputs
    ctx.save_for_backward(q, k, v, table, hidden, *output)
    ctx.rest, ctx.bias_grad = rest, table is not None and ctx.needs_input_grad[3]


def differentiate(ctx: Any, dy: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    q, k, v, table, hidden, y, lse = ctx.saved_tensors
    dq, dk, dv, dtable = backward(dy, q, k, v, y, lse, table, hidden, *ctx.rest, ctx.bias_grad)
    return dq, dk, dv, dtable if ctx.bias_grad else None, *[None] * 6


forward.register_autograd(differentiate, setup_context=setup_context)


def to_table(dbias: Tensor, size: list[int], largest: list[int]) -> Tensor:
    """(h, n, n) -> (rows, h): sums over the pairs of one offset, in a fixed order on every device."""
    from models.ops.windows import relative_index

    index = relative_index(size, largest, dbias.device).flatten()
    rows = math.prod(2 * w - 1 for w in largest)
    order = index.argsort(stable=True)
    counts = torch.bincount(index, minlength=rows)
    return torch.segment_reduce(dbias.flatten(1).mT[order].contiguous(), "sum", lengths=counts)


class Sizes:
    """Sizes that the kernels are compiled for."""

    def __init__(
        self, q: Tensor, size: list[int], shift: list[int], strided: list[int], largest: list[int]
    ) -> None:
        self.heads, self.e, self.grid = q.shape[4], q.shape[5], q.shape[1:4]
        self.size, self.shift, self.strided, self.largest = size, shift, strided, largest
        self.counts = [-(-n // w) for n, w in zip(self.grid, size, strict=True)]
        self.n, self.windows = math.prod(size), math.prod(self.counts)
        self.block = min(64, max(16, 1 << (self.n - 1).bit_length()))
        self.blocks = -(-self.n // self.block)

    def constants(self, table: Tensor | None, hidden: Tensor | None) -> dict[str, Any]:
        """Keyword arguments of every kernel."""
        names = ("T", "H", "W")
        fields: dict[str, Any] = {}
        for i, name in enumerate(names):
            fields |= {
                f"G{name}": self.grid[i],
                f"C{name}": self.counts[i],
                f"W{name}": self.size[i],
                f"S{name}": self.shift[i],
                f"D{name}": self.strided[i],
                f"L{name}": self.largest[i],
            }
        return fields | {
            "HEADS": self.heads,
            "E": self.e,
            "N": self.n,
            "BLOCK": self.block,
            "BLOCK_E": max(16, 1 << (self.e - 1).bit_length()),
            "HAS_BIAS": table is not None,
            "HAS_HIDDEN": hidden is not None,
        }


def strides(x: Tensor) -> tuple[int, ...]:
    """Of batch, t, h, w and head; channels lie side by side."""
    if x.stride(-1) != 1:
        raise ValueError(f"channels of a head must lie side by side, got strides {x.stride()}")
    return x.stride()[:5]
