"""Learning rates by name, each a function of the step alone: nothing to save, nothing to restore."""

import math


def schedule(name: str, step: int, *, steps: int, warmup: int = 0, cooldown: int = 0) -> float:
    """Learning rate of a step, counted from 0, as a share of its peak.

    Linear warm-up, then: cosine, half a period to 0; linear, to 0; constant; wsd (warm-up, stable, decay),
    constant and over the last `cooldown` steps linear to 0, Hu et al., 2024, arXiv:2404.06395, sec. 4.
    LookupError for another name.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    done = (step - warmup) / max(1, steps - warmup)
    match name:
        case "cosine":
            return 0.5 * (1 + math.cos(math.pi * done))
        case "linear":
            return 1 - done
        case "constant":
            return 1.0
        case "wsd":
            return min(1.0, (steps - step) / (cooldown + 1))
    raise LookupError(f"no schedule {name!r}; there are cosine, linear, wsd and constant")
