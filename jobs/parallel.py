"""Processes that train one model together: who has which part of its weights, and how they talk."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from jobs.config.schema import TrainJob
from models.block import Block

# (part of a checkpoint, name, shape) -> the rows that are wanted of a tensor; None: all of it
Rows = Callable[[str, str, Sequence[int]], slice | None]


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


def shard(task: nn.Module, device: torch.device) -> None:
    """Divide every parameter among the processes, by FSDP2: a unit for each Block, and one for the rest.

    `task` is on the meta device; afterwards it has memory on `device` for this process's parts, not filled.

    Each process then has its part of every parameter, cut along the first axis, and gathers a block's
    weights when it comes to the block. Zhao et al., 2023, arXiv:2304.11277. Torch's own call: accelerate
    1.15 takes its plugin into account on accelerators alone, and leaves it in the process's environment.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for module in task.modules():
        if isinstance(module, Block):
            fully_shard(module, mesh=mesh)
    fully_shard(task, mesh=mesh)
    task.to_empty(device=device)


def fill(task: nn.Module, weights: Iterable[tuple[str, Tensor]]) -> None:
    """This process's parts of whole parameters and buffers, which come one after another."""
    own = {**dict(task.named_parameters()), **dict(task.named_buffers())}
    for name, whole in weights:
        own_part(own[name].detach()).copy_(own_part(divided(whole, own[name])))


def put(task: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """This process's parts, by name, as they are in a checkpoint; KeyError when they are of another model."""
    own = task.state_dict()
    if other := own.keys() ^ weights.keys():
        raise KeyError(f"the checkpoint is of another model: {sorted(other)[:4]} are in one of them only")
    for name, value in weights.items():
        own_part(own[name]).copy_(value)


def rows_of(task: nn.Module, optimizer: torch.optim.Optimizer) -> Rows:
    """Which rows of the tensors of a checkpoint are this process's."""
    weights = task.state_dict()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def rows(kind: str, name: str, shape: Sequence[int]) -> slice | None:
        like = parameters[int(name.partition(".")[0])] if kind == "optimizer" else weights[name]
        return own_rows(like) if like.shape[1:] == tuple(shape[1:]) else None

    return rows


def own_rows(like: Tensor) -> slice | None:
    """Rows that this process has of a divided tensor; None of one that it has all of."""
    if not isinstance(like, DTensor):
        return None
    numbers = own_part(
        distribute_tensor(torch.arange(len(like)), like.device_mesh, like.placements, src_data_rank=None)
    )
    return slice(int(numbers[0]), int(numbers[-1]) + 1) if len(numbers) else slice(0, 0)


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
    if not isinstance(like, DTensor):
        return whole
    return distribute_tensor(whole.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def divided_state(state: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """An optimizer's state dict of own parts, as parts of tensors that are divided as its parameters are."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    parts = {
        index: {name: _of_divided(value, parameters[index]) for name, value in values.items()}
        for index, values in state["state"].items()
    }
    return {**state, "state": parts}


def _of_divided(part: Any, like: Tensor) -> Any:
    if not (isinstance(like, DTensor) and isinstance(part, Tensor) and part.shape == own_part(like).shape):
        return part
    mesh, placements = like.device_mesh, like.placements
    return DTensor.from_local(
        part.to(like.device), mesh, placements, run_check=False, shape=like.shape, stride=like.stride()
    )


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
