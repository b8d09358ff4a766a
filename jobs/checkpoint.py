"""Checkpoints: safetensors and JSON with digests, visible only when whole. No pickle anywhere."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import blake3
import torch
from safetensors.torch import load, save
from torch import Tensor

from pipelines.jsontext import dumps, loads
from pipelines.shards.storage import Storage

log = logging.getLogger("rayloom")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The state of a run after `step` optimiser steps. `facts` are JSON: spec, loader, schedule, job."""

    step: int
    model: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    facts: Mapping[str, Any]
    digest: str = ""  # BLAKE3 of its state.json; set when it is loaded


def write(storage: Storage, checkpoint: Checkpoint) -> None:
    """Store it under its step. state.json comes last: without it there is no checkpoint."""
    folder = _folder(checkpoint.step)
    for key in storage.list(f"{folder}/"):  # a run that came to this step again found what is there damaged
        storage.delete(key)
    tensors, rest = _flatten(checkpoint.optimizer)
    files = {
        "model.safetensors": save({k: v.detach().cpu().contiguous() for k, v in checkpoint.model.items()}),
        "optimizer.safetensors": save(tensors),
    }
    digests = {}
    for name, content in files.items():
        digests[name] = blake3.blake3(content).hexdigest()
        key = f"{folder}/{digests[name][:16]}-{name}"  # a crashed attempt must not stand in the way
        storage.put(key, content)
    state = {"step": checkpoint.step, "optimizer": rest, "facts": checkpoint.facts, "files": digests}
    storage.put(f"{folder}/state.json", dumps(state).encode())


def read(storage: Storage, step: int, *, optimizer: bool = True) -> Checkpoint:
    """Load and verify; ValueError when a file is damaged."""
    folder = _folder(step)
    text = storage.get(f"{folder}/state.json")
    state = loads(text)
    contents = {}
    for name, digest in state["files"].items():
        if name.startswith("optimizer") and not optimizer:
            continue
        content = storage.get(f"{folder}/{digest[:16]}-{name}")
        if blake3.blake3(content).hexdigest() != digest:
            raise ValueError(
                f"{folder}/{name} in {storage.url} is damaged: its bytes are not those of its digest"
            )
        contents[name] = content
    tensors = load(contents["optimizer.safetensors"]) if optimizer else {}
    return Checkpoint(
        step=state["step"],
        model=load(contents["model.safetensors"]),
        optimizer=_unflatten(tensors, state["optimizer"]) if optimizer else {},
        facts=state["facts"],
        digest=blake3.blake3(text).hexdigest(),
    )


def steps(storage: Storage) -> list[int]:
    """Steps with a whole checkpoint, newest first."""
    found = (key for key in storage.list("checkpoints/") if key.endswith("/state.json"))
    return sorted((int(key.split("/")[1]) for key in found), reverse=True)


def newest(storage: Storage, *, optimizer: bool = True) -> Checkpoint | None:
    """The newest checkpoint that is intact; says so when it had to pass over a damaged one."""
    for checkpoint in _intact(storage, optimizer):
        return checkpoint
    return None


def _intact(storage: Storage, optimizer: bool) -> Iterator[Checkpoint]:
    for step in steps(storage):
        try:
            yield read(storage, step, optimizer=optimizer)
        except (ValueError, KeyError, OSError) as e:
            log.warning("checkpoint %d of %s is passed over: %s", step, storage.url, e)


def _folder(step: int) -> str:
    return f"checkpoints/{step:08}"


def _flatten(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimizer's state dict as tensors by "<parameter>.<name>", and what is left, JSON-able."""
    tensors = {
        f"{index}.{name}": value.detach().cpu().contiguous()
        for index, values in state["state"].items()
        for name, value in values.items()
        if isinstance(value, Tensor)
    }
    return tensors, {"param_groups": state["param_groups"]}


def _unflatten(tensors: Mapping[str, Tensor], rest: Mapping[str, Any]) -> dict[str, Any]:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, _, field = name.partition(".")
        state.setdefault(int(index), {})[field] = value
    groups = [{**group, "betas": tuple(group["betas"])} if "betas" in group else group
              for group in rest["param_groups"]]  # fmt: skip
    return {"state": state, "param_groups": groups}


def optimizer_of(parameters: Any, *, learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW that decays matrices and leaves biases, norms and tables of one dimension alone."""
    parameters = [p for p in parameters if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=learning_rate, betas=(0.9, 0.999))
