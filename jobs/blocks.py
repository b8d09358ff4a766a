"""How each block of a model runs: compiled, computed again in the backward pass, or as it is written."""

from functools import partial

from torch import nn

from models.block import Block


def prepare_blocks(task: nn.Module, *, compile: str | None = None, recompute: bool = False) -> int:
    """Change every Block in its place, without touching the names of its weights; how many there were.

    compile: a backend of torch.compile. Blocks of one shape are compiled once, whatever the depth.
    recompute: keep a block's input alone for the backward pass. Chen et al., 2016, arXiv:1604.06174.
    """
    import torch
    from torch.utils.checkpoint import checkpoint

    blocks = [module for module in task.modules() if isinstance(module, Block)]
    for block in blocks:
        run = block.forward
        if compile is not None:
            run = torch.compile(run, backend=compile, dynamic=False)
        if recompute:
            run = partial(checkpoint, run, use_reentrant=False)
        block.forward = run  # type: ignore[method-assign]
    return len(blocks)
