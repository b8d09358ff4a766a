"""Weights as safetensors bytes with a JSON description; nothing else is read, nothing is run."""

import json
from collections.abc import Mapping
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

CONFIG = "rayloom.config"


def to_bytes(module: nn.Module, config: Mapping[str, Any] | None = None) -> bytes:
    """State of the module, with a JSON-able description of how to build it."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    return save(state, metadata={CONFIG: json.dumps(config or {}, sort_keys=True)})


def from_bytes(content: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """State and description of a safetensors file; ValueError if it is none."""
    try:
        state = load(content)
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        config = json.loads(header.get("__metadata__", {}).get(CONFIG, "{}"))
    except (SafetensorError, ValueError) as e:
        raise ValueError(f"not a safetensors file of {len(content)} bytes: {e}") from e
    return state, config


def load_bytes(module: nn.Module, content: bytes) -> dict[str, Any]:
    """Fill the module, return the description. ValueError names what is missing, left over or misshapen."""
    state, config = from_bytes(content)
    own = module.state_dict()
    missing, extra = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    shapes = [
        f"{name} {tuple(state[name].shape)} for {tuple(own[name].shape)}"
        for name in sorted(own.keys() & state.keys())
        if state[name].shape != own[name].shape
    ]
    if missing or extra or shapes:
        raise ValueError(
            f"these weights are of another model: missing {missing}, extra {extra}, shapes {shapes}"
        )
    module.load_state_dict(state)
    return config
