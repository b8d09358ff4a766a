"""Optimizers by name, and which parameters they decay and how fast each learns."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from models.block import Block

Groups = list[dict[str, Any]]


class Lion(torch.optim.Optimizer):
    """x -= rate (sign(b1 m + (1 - b1) g) + decay x);  m = b2 m + (1 - b2) g.

    Paper: Chen et al., 2023, arXiv:2302.06675, algorithm 2.
    """

    def __init__(
        self,
        params: Any,
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update; `closure`, if given, computes the loss again."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            b1, b2 = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                momentum = state["momentum"]
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(momentum.lerp(p.grad, 1 - b1).sign_(), alpha=-group["lr"])
                momentum.lerp_(p.grad, 1 - b2)
        return loss


class DecoupledSGD(torch.optim.SGD):
    """SGD with Nesterov's momentum 0.9 whose decay does not pass through the momentum, as AdamW's does not.

    Paper: Loshchilov and Hutter, 2017, arXiv:1711.05101, algorithm 1.
    """

    def __init__(self, params: Any, *, lr: float) -> None:
        super().__init__(params, lr=lr, momentum=0.9, nesterov=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update."""
        decays = [group["weight_decay"] for group in self.param_groups]
        for group, decay in zip(self.param_groups, decays, strict=True):
            for p in group["params"]:
                if p.grad is not None:
                    p.mul_(1 - group["lr"] * decay)
            group["weight_decay"] = 0.0
        try:
            done: float | None = super().step(closure)
            return done
        finally:
            for group, decay in zip(self.param_groups, decays, strict=True):
                group["weight_decay"] = decay


def optimizer_of(
    name: str, task: nn.Module, *, learning_rate: float, weight_decay: float, layer_decay: float = 1.0
) -> torch.optim.Optimizer:
    """adamw, lion or sgd over `groups_of(task)`; LookupError for another name."""
    groups = groups_of(task, weight_decay=weight_decay, layer_decay=layer_decay)
    match name:
        case "adamw":
            return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.999))
        case "lion":
            return Lion(groups, lr=learning_rate)
        case "sgd":
            return DecoupledSGD(groups, lr=learning_rate)
    raise LookupError(f"no optimizer {name!r}; there are adamw, lion and sgd")


def groups_of(task: nn.Module, *, weight_decay: float, layer_decay: float = 1.0) -> Groups:
    """Parameters that learn, in groups of one "weight_decay" and one "rate", a share of the learning rate.

    Only weights of linear maps and convolutions decay. The rate is layer_decay ** (the head's depth - depth),
    as in Bao et al., 2021, arXiv:2106.08254.
    """
    decaying = {id(p) for p in _weights(task)}
    depths = depths_of(task)
    last = max(depths.values(), default=0)
    groups: defaultdict[tuple[float, float], list[Tensor]] = defaultdict(list)
    for name, p in task.named_parameters():
        if p.requires_grad:
            rate = layer_decay ** (last - depths[name])
            groups[weight_decay if id(p) in decaying else 0.0, rate].append(p)
    return [
        {"params": parameters, "weight_decay": decay, "rate": rate}
        for (decay, rate), parameters in sorted(groups.items(), key=lambda item: item[0], reverse=True)
    ]


def _weights(task: nn.Module) -> Iterator[Tensor]:
    """Weights of linear maps and convolutions, also those that a parametrization makes from others."""
    for module in task.modules():
        if isinstance(module, nn.Linear | _ConvNd):
            for name, p in module.named_parameters():
                if name == "weight" or name.startswith("parametrizations.weight.original"):
                    yield p


def depths_of(task: nn.Module) -> dict[str, int]:
    """Depth of every parameter: 0 before the blocks, i + 1 in block i, one more than the last in the head.

    What stands between blocks has the depth of the block before it, a neck that of the head.
    """
    names = [name for name, module in task.named_modules() if isinstance(module, Block)]
    blocks = {name: depth for depth, name in enumerate(names, 1)}
    stages = {name.rsplit(".", 1)[0]: depth for name, depth in blocks.items()}  # the last block of each
    ends = list(stages.values())
    depths = {}
    for name, _ in task.named_parameters():
        parts = name.split(".")
        inside = [blocks[p] for i in range(1, len(parts)) if (p := ".".join(parts[:i])) in blocks]
        if inside:
            depths[name] = inside[0]
        elif "merges" in parts:
            depths[name] = ends[int(parts[parts.index("merges") + 1])]
        elif "stem" not in parts and ("head" in parts or "neck" in parts):
            depths[name] = len(blocks) + 1
        elif "stem" not in parts and "norm" in parts:
            depths[name] = len(blocks)
        else:
            depths[name] = 0
    return depths
