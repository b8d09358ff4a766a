"""Checkpoints: safetensors and JSON with digests, visible only when whole. No pickle anywhere."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import blake3
from safetensors.torch import load, save
from torch import Tensor

from pipelines.jsontext import dumps, loads
from pipelines.shards.storage import Storage

log = logging.getLogger("rayloom")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The state of a run after `step` optimiser steps. `facts` are JSON: spec, loader, schedule, job.

    average: the parameters' moving averages by name; empty where the run keeps none.
    """

    step: int
    model: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    facts: Mapping[str, Any]
    average: Mapping[str, Tensor] = field(default_factory=dict)
    digest: str = ""  # BLAKE3 of its state.json; set when it is loaded


def write(storage: Storage, checkpoint: Checkpoint) -> None:
    """Store it under its step. state.json comes last: without it there is no checkpoint."""
    folder = _folder(checkpoint.step)
    for key in storage.list(f"{folder}/"):  # a run that came to this step again found what is there damaged
        storage.delete(key)
    tensors, rest = _flatten(checkpoint.optimizer)
    files = {
        "model.safetensors": save(_plain(checkpoint.model)),
        "optimizer.safetensors": save(tensors),
    }
    if checkpoint.average:
        files["average.safetensors"] = save(_plain(checkpoint.average))
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
        average=load(contents["average.safetensors"]) if "average.safetensors" in contents else {},
        digest=blake3.blake3(text).hexdigest(),
    )


def steps(storage: Storage) -> list[int]:
    """Steps with a whole checkpoint, newest first."""
    found = (key for key in storage.list("checkpoints/") if key.endswith("/state.json"))
    return sorted((int(key.split("/")[1]) for key in found), reverse=True)


def prune(storage: Storage, keep: int, *, besides: int | None = None) -> None:
    """Delete all but the newest `keep` checkpoints and the one of step `besides`.

    state.json goes first: what is left of an interrupted deletion is no checkpoint.
    """
    for step in steps(storage)[keep:]:
        if step != besides:
            folder = _folder(step)
            storage.delete(f"{folder}/state.json")
            for key in storage.list(f"{folder}/"):
                storage.delete(key)


def best(storage: Storage) -> Checkpoint | None:
    """The checkpoint that was best on the held-out split, by the newest intact one's word; weights alone.

    LookupError when the run has measured nothing; ValueError when the best one is damaged.
    """
    last = newest(storage, optimizer=False)
    if last is None:
        return None
    if (found := last.facts.get("best")) is None:
        raise LookupError(f"the run in {storage.url} has no best checkpoint: it measured nothing held out")
    return read(storage, found["step"], optimizer=False)


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


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}


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
