"""Independent peers, and weights copied to and from them."""

import copy
import importlib.util
import json
import os
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from models import create_model
from models.imports import export_state, import_state

Agree = Callable[..., tuple[nn.Module, float]]


@pytest.fixture(scope="session")
def timm() -> types.ModuleType:
    """timm, whose models need nothing of torchvision but names at import."""
    if importlib.util.find_spec("torchvision") is None and "torchvision" not in sys.modules:
        if importlib.util.find_spec("transformers") is not None:
            importlib.import_module("transformers")  # asks for torchvision once, at import
        install_torchvision_names()
    return pytest.importorskip("timm")


@pytest.fixture(scope="session")
def transformers() -> types.ModuleType:
    return pytest.importorskip("transformers")


@pytest.fixture(scope="session")
def agree() -> Agree:
    return check_agreement


def check_agreement(
    name: str,
    peer: nn.Module,
    *,
    source: str,
    sizes: Sequence[tuple[int, ...]],
    tolerance: float = 1e-5,
    options: dict[str, Any] | None = None,
    std: float = 0.05,
    logits: Callable[[Any], Tensor] = lambda y: getattr(y, "logits", y),
) -> tuple[nn.Module, float]:
    """Both give the same logits with the same random weights, at every size, and names survive a round trip.

    Every parameter and statistic of the peer is drawn anew: tables that start at zero would hide mistakes.
    Returns our model and the largest difference.
    """
    peer = copy.deepcopy(peer).eval()
    draw = torch.Generator().manual_seed(0)
    state = {}
    for key, value in peer.state_dict().items():
        if not value.is_floating_point():
            continue
        noise = torch.randn(value.shape, generator=draw) * std
        positive = key.endswith("running_var") or (key.endswith("weight") and value.ndim == 1)
        state[key] = (1 + noise).abs() if positive else noise
    peer.load_state_dict(state, strict=False)
    theirs = peer.state_dict()
    ours = create_model(name, **(options or {})).eval()
    imported = import_state(name, theirs, source=source)
    ours.load_state_dict({**counters(ours), **imported})
    exported = export_state(name, imported, source=source)
    for key, value in exported.items():
        assert torch.equal(value, theirs[key]), key
    worst = 0.0
    for size in sizes:
        x = torch.randn(2, 3, *size, generator=draw)
        with torch.no_grad():
            want, got = logits(copy.deepcopy(peer)(x)), ours(x)  # some peers remember sizes they saw
        assert want.std() > 1e-3, "the peer's answer must vary, or agreement says nothing"
        scale = max(1.0, float(want.abs().max()))
        worst = max(worst, float((got - want).abs().max()) / scale)
        assert_close(got / scale, want / scale, atol=tolerance, rtol=0)
    if "RAYLOOM_PEERS" in os.environ:  # a file for the table in docs/benchmarks/peers.md
        row = {"model": name, "peer": f"{source} {type(peer).__name__}", "difference": worst}
        with open(os.environ["RAYLOOM_PEERS"], "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
    return ours, worst


def counters(module: nn.Module) -> dict[str, Tensor]:
    """Batch counters, which no rule needs to carry."""
    return {key: value for key, value in module.state_dict().items() if key.endswith("num_batches_tracked")}


def install_torchvision_names() -> None:
    """The few names of torchvision that timm imports; none of them is called by the models compared here."""

    class Module(types.ModuleType):
        def __getattr__(self, name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            return type(name, (nn.Module,), {})

    names = ["torchvision"]
    names += [f"torchvision.{child}" for child in ("ops", "transforms", "datasets", "models", "utils")]
    names += ["torchvision.ops.misc", "torchvision.transforms.functional", "torchvision.datasets.folder"]
    names += ["torchvision.models.feature_extraction"]
    for name in names:
        module = Module(name)
        module.__path__ = []  # type: ignore[attr-defined]
        sys.modules[name] = module
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)

    class Modes:
        NEAREST, BILINEAR, BICUBIC, BOX, HAMMING, LANCZOS = range(6)
        NEAREST_EXACT = 6

    sys.modules["torchvision.transforms"].InterpolationMode = Modes  # type: ignore[attr-defined]
    sys.modules["torchvision.transforms.functional"].InterpolationMode = Modes  # type: ignore[attr-defined]
