"""Linear attention with a decay for each step: three forms of one function.

y_i = sum_(j <= i) a_(j+1) ... a_i (q_i . k_j) v_j, a forget gate a for each step; log_decay is log a, (*, n),
against q and k (*, n, e) and v (*, n, f). Source: Sun et al., 2023, arXiv:2307.08621, eq. 5-7; gates that
change from step to step, Han et al., 2024, arXiv:2405.16605, eq. 6-7.
"""

import torch
from jaxtyping import Float
from torch import Tensor

Steps = Float[Tensor, "*s n e"]


def parallel(q: Steps, k: Steps, v: Steps, log_decay: Tensor) -> Tensor:
    """All steps at once, O(n^2)."""
    return (q @ k.mT * decay_between(log_decay)) @ v


def recurrent(q: Steps, k: Steps, v: Steps, log_decay: Tensor) -> Tensor:
    """Step by step with a state of (*, e, f) whatever the length: S = a S + k^T v, y = q S."""
    state = torch.zeros_like(k[..., 0, :, None] * v[..., 0, None, :])
    ys = []
    for i in range(q.shape[-2]):
        y, state = step(q[..., i, :], k[..., i, :], v[..., i, :], log_decay[..., i], state)
        ys.append(y)
    return torch.stack(ys, -2)


def step(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """One step of `recurrent`: (*, e), (*, e), (*, f) and the state -> (*, f) and the state after it."""
    state = log_decay.exp()[..., None, None] * state + k[..., :, None] * v[..., None, :]
    return (q[..., None, :] @ state).squeeze(-2), state


def chunkwise(q: Steps, k: Steps, v: Steps, log_decay: Tensor, *, chunk: int) -> Tensor:
    """Chunks of `chunk` steps: parallel inside, recurrent between them, O(n chunk)."""
    state = None
    ys = []
    for start in range(0, q.shape[-2], chunk):
        here = slice(start, start + chunk)
        queries, keys, values, decay = q[..., here, :], k[..., here, :], v[..., here, :], log_decay[..., here]
        total = decay.cumsum(-1)
        y = parallel(queries, keys, values, decay)
        late = keys * (total[..., -1:] - total).exp()[..., None]  # what is left of them at the chunk's end
        if state is None:
            state = late.mT @ values
        else:
            y = y + (queries * total.exp()[..., None]) @ state
            state = total[..., -1].exp()[..., None, None] * state + late.mT @ values
        ys.append(y)
    return torch.cat(ys, -2)


def decay_between(log_decay: Float[Tensor, "*s n"]) -> Float[Tensor, "*s n n"]:
    """What is left at step i of step j: a_(j+1) ... a_i, zero where j is later."""
    total = log_decay.cumsum(-1)
    n = total.shape[-1]
    later = torch.ones(n, n, dtype=torch.bool, device=total.device).triu(1)
    return (total[..., :, None] - total[..., None, :]).masked_fill(later, -torch.inf).exp()
