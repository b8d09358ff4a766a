"""Checkpoints: safetensors and JSON with digests, visible only when whole. No pickle anywhere."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Final

import blake3
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from jobs.parallel import Rows, own_part
from pipelines.jsontext import dumps, loads
from pipelines.shards.storage import LocalStorage, Storage

log = logging.getLogger("rayloom")
PIECE: Final = 2**23  # bytes read and summed at a time


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


def write(
    storage: Storage,
    checkpoint: Checkpoint,
    *,
    rank: int = 0,
    world_size: int = 1,
    gather: Callable[[Any], list[Any]] = lambda value: [value],
) -> None:
    """Store it under its step. state.json comes last: without it there is no checkpoint.

    Processes that have divided the tensors among them all call it, each with what it has; `gather` brings
    a value of each to all. Every process writes files of its own, and the first one state.json.
    """
    folder = _folder(checkpoint.step)
    if rank == 0:
        for key in storage.list(f"{folder}/"):  # a run that came to this step again found it damaged
            storage.delete(key)
    gather(None)  # nobody writes before that
    tensors, rest = _flatten(checkpoint.optimizer)
    files = {"model": checkpoint.model, "optimizer": tensors, "average": checkpoint.average}
    part = f"-{rank + 1}-of-{world_size}" if world_size > 1 else ""
    digests = {}
    for name, values in files.items():
        if not values and name == "average":
            continue
        content = save(_own(values, rank))
        file = f"{name}{part}.safetensors"
        digests[file] = blake3.blake3(content).hexdigest()
        # A crashed attempt must not stand in the way: the key has the digest.
        storage.put(f"{folder}/{digests[file][:16]}-{file}", content)
    every = gather(digests)
    if rank == 0:
        found = {name: digest for part in every for name, digest in part.items()}
        state = {"step": checkpoint.step, "optimizer": rest, "facts": checkpoint.facts, "files": found}
        storage.put(f"{folder}/state.json", dumps(state).encode())


def read(storage: Storage, step: int, *, optimizer: bool = True, rows: Rows | None = None) -> Checkpoint:
    """Load and verify, whole, by however many processes it was written; ValueError when a file is damaged.

    rows: which rows of a tensor are wanted; no more than these, and one file's pages, take memory.
    """
    folder = _folder(step)
    text = storage.get(f"{folder}/state.json")
    state = loads(text)
    found: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}, "average": {}}
    above: Counter[tuple[str, str]] = Counter()  # rows of a tensor in the parts before
    for file, digest in sorted(state["files"].items(), key=lambda item: _part(item[0])):
        kind, _ = _part(file)
        if kind == "optimizer" and not optimizer:
            continue
        with (
            _verified(storage, f"{folder}/{digest[:16]}-{file}", digest) as path,
            safe_open(path, framework="pt") as stored,
        ):
            for name in stored.keys():  # noqa: SIM118 - it is no dict
                shape = stored.get_slice(name).get_shape()
                wanted = rows(kind, name, shape) if rows and shape else None
                own = _some(stored, name, wanted, above[kind, name])
                above[kind, name] += shape[0] if shape else 0
                there = found[kind].get(name)
                found[kind][name] = own if there is None else torch.cat((there, own))
    return Checkpoint(
        step=state["step"],
        model=found["model"],
        optimizer=_unflatten(found["optimizer"], state["optimizer"]) if optimizer else {},
        facts=state["facts"],
        average=found["average"],
        digest=blake3.blake3(text).hexdigest(),
    )


def _some(stored: Any, name: str, wanted: slice | None, above: int) -> Tensor:
    """The wanted rows of a tensor, of which `above` rows stand before this file, in memory of their own."""
    if wanted is None:
        whole: Tensor = stored.get_tensor(name)
        return whole.clone()
    part = stored.get_slice(name)
    count = part.get_shape()[0]
    first, last = (min(max(row - above, 0), count) for row in (wanted.start, wanted.stop))
    some: Tensor = part[first:last]
    return some.clone()


@contextmanager
def _verified(storage: Storage, key: str, digest: str) -> Iterator[Path]:
    """A local file of these bytes; ValueError when they are not those of the digest."""
    hasher = blake3.blake3()
    with ExitStack() as stack:
        if isinstance(storage, LocalStorage):
            path = storage.root / key
            for piece in storage.chunks(key, PIECE):
                hasher.update(piece)
        else:
            copy = stack.enter_context(NamedTemporaryFile(prefix="rayloom-checkpoint-"))
            path = Path(copy.name)
            for piece in storage.chunks(key, PIECE):
                hasher.update(piece)
                copy.write(piece)
            copy.flush()
        if hasher.hexdigest() != digest:
            raise ValueError(f"{key} in {storage.url} is damaged: its bytes are not those of its digest")
        yield path


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


def newest(storage: Storage, *, optimizer: bool = True, rows: Rows | None = None) -> Checkpoint | None:
    """The newest checkpoint that is intact; says so when it had to pass over a damaged one."""
    for step in steps(storage):
        try:
            return read(storage, step, optimizer=optimizer, rows=rows)
        except (ValueError, KeyError, OSError) as e:
            log.warning("checkpoint %d of %s is passed over: %s", step, storage.url, e)
    return None


def _folder(step: int) -> str:
    return f"checkpoints/{step:08}"


def _own(tensors: Mapping[str, Tensor], rank: int) -> dict[str, Tensor]:
    """What the process of this rank stores: its parts of divided tensors; the first, all others too."""
    return {
        name: own_part(value.detach()).cpu().contiguous()
        for name, value in tensors.items()
        if rank == 0 or own_part(value) is not value
    }


def _part(file: str) -> tuple[str, int]:
    """Name and number: "model-2-of-4.safetensors" is the second part of the model."""
    name, _, part = file.removesuffix(".safetensors").partition("-")
    return name, int(part.partition("-")[0] or 0)


def _flatten(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimizer's state dict as tensors by "<parameter>.<name>", and what is left, JSON-able."""
    tensors = {
        f"{index}.{name}": value
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
