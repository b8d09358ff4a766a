"""Attention over several sequences in one row, none of which sees another."""

from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from models.layout import Offsets
from models.ops.attention import attend, open_empty_rows
from models.ops.attention import facts as attention_facts
from models.ops.dispatch import Backend, Facts, Op


def attend_packed(
    q: Float[Tensor, "b h n e"],
    k: Float[Tensor, "b h n e"],
    v: Float[Tensor, "b h n e"],
    ends: Offsets,
    keys: Bool[Tensor, "b n"] | None = None,
) -> Float[Tensor, "b h n e"]:
    """Attention inside each of the sequences [ends[i], ends[i + 1]); `keys` is true where a key may be seen.

    The same ends hold for every row; ends[0] = 0 and ends[-1] = n.
    """
    return PACKED(q, k, v, ends, keys)


def facts(q: Tensor, k: Tensor, v: Tensor, ends: Tensor, keys: Tensor | None = None) -> Facts:
    """What the choice of a backend depends on."""
    return attention_facts(q, k, v)._replace(masked=keys is not None)


def by_sequences(q: Tensor, k: Tensor, v: Tensor, ends: Tensor, keys: Tensor | None = None) -> Tensor:
    """One attention a sequence: O(sum of squares) work and memory."""
    parts = []
    for a, b in pairwise(ends.tolist()):
        seen = None if keys is None else open_empty_rows(keys[:, None, None, a:b])
        parts.append(attend(q[:, :, a:b], k[:, :, a:b], v[:, :, a:b], seen))
    return torch.cat(parts, 2)


def by_mask(q: Tensor, k: Tensor, v: Tensor, ends: Tensor, keys: Tensor | None = None) -> Tensor:
    """One attention over everything under a block-diagonal mask: O(n^2) work and memory."""
    place = torch.arange(q.shape[2], device=ends.device)
    sequence = torch.searchsorted(ends[1:], place, right=True)
    seen = (sequence[:, None] == sequence[None])[None]
    if keys is not None:
        seen = seen & keys[:, None]
    return attend(q, k, v, open_empty_rows(seen)[:, None])


def needs_lengths(facts: Facts) -> str | None:
    """Lengths are read on the host: free on a CPU, a wait on a GPU, a graph break under compile."""
    if facts.device != "cpu":
        return f"it reads the lengths on the host, and the tokens are on {facts.device}"
    if torch.compiler.is_compiling():
        return "lengths are data, which a compiled graph cannot branch on"
    return None


PACKED = Op(
    "packed_attention",
    facts,
    [Backend("sequences", by_sequences, needs_lengths), Backend("mask", by_mask, lambda facts: None)],
)
