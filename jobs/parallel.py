"""Processes that train one model together: who has which part of its weights, and how they talk."""

import json
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from jobs.config.schema import TrainJob
from models.block import Block


def accelerator_of(job: TrainJob, *, trackers: Any = None, project_dir: str | None = None) -> Any:
    """What accelerate knows of this process; ValueError for a precision that its device has not."""
    from accelerate import Accelerator, DistributedDataParallelKwargs
    from accelerate.state import AcceleratorState

    several = any(part.task for part in job.more)
    AcceleratorState._reset_state(reset_partial_state=True)  # of a run that this process did before
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(),
        mixed_precision="no" if job.precision == "fp32" else job.precision,
        log_with=trackers or None,
        # A step of one task leaves the heads of the others alone.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=several)],
        project_dir=project_dir,
    )
    if job.precision == "fp16" and accelerator.scaler is None:  # accelerate would compute in fp32
        raise ValueError(
            f"precision fp16 needs a GPU, this worker has {accelerator.device}; want bf16 or fp32"
        )
    return accelerator


def shard(task: nn.Module) -> None:
    """Divide every parameter among the processes, by FSDP2: a unit for each Block, and one for the rest.

    Each process then has its part of every parameter, cut along the first axis, and gathers a block's
    weights when it comes to the block. Zhao et al., 2023, arXiv:2304.11277. Torch's own call: accelerate
    1.15 takes its plugin into account on accelerators alone, and leaves it in the process's environment.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    kind = next(task.parameters()).device.type
    mesh = init_device_mesh(kind, (dist.get_world_size(),))
    for module in task.modules():
        if isinstance(module, Block):
            fully_shard(module, mesh=mesh)
    fully_shard(task, mesh=mesh)


def let_go(task: nn.Module) -> None:
    """Drop the weights that were gathered for a forward pass after which no backward pass came."""
    from torch.distributed.fsdp import FSDPModule

    for module in task.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def own_part(tensor: Tensor) -> Tensor:
    """What this process has of a tensor: a part of a divided one, else all of it."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def divided(whole: Tensor, like: Tensor) -> Tensor:
    """`whole`, which every process has, as a tensor that is divided as `like` is; nothing is sent."""
    if not isinstance(like, DTensor) or whole.shape != like.shape:
        return whole
    from torch.distributed.tensor import distribute_tensor

    whole = whole.to(like.device)
    return distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None)


def divided_state(state: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """An optimizer's state dict of whole tensors, divided as its parameters are."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    parts = {
        index: {n: divided(v, parameters[index]) if isinstance(v, Tensor) else v for n, v in values.items()}
        for index, values in state["state"].items()
    }
    return {**state, "state": parts}


def gather(value: Any, device: torch.device) -> list[Any]:
    """What every process gave, in the order of their ranks. The values travel as JSON."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return [value]
    text = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8).to(device)
    sizes = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(dist.get_world_size())]
    dist.all_gather(sizes, torch.tensor([len(text)], device=device))
    most = int(max(sizes))
    texts = [torch.empty(most, dtype=torch.uint8, device=device) for _ in sizes]
    dist.all_gather(texts, nn.functional.pad(text, (0, most - len(text))))
    return [json.loads(bytes(found[: int(size)].tolist())) for found, size in zip(texts, sizes, strict=True)]
