"""Nonlinearities by name, as presets write them."""

from collections.abc import Callable

from torch import nn

from models.registry import suggest

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "gelu_tanh": lambda: nn.GELU(approximate="tanh"),
    "hardswish": nn.Hardswish,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


def activation(name: str | None) -> nn.Module:
    """The module of that name; None is the identity, an unknown name a LookupError."""
    if name is None:
        return nn.Identity()
    if name not in ACTIVATIONS:
        raise LookupError(f"no activation {name!r}; did you mean one of {suggest(name, ACTIVATIONS)}?")
    return ACTIVATIONS[name]()
