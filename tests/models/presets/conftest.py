"""Independent peers, and weights copied to and from them."""

import copy
import functools
import importlib.metadata
import importlib.util
import os
import re
import sys
import types
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from models import create_model
from models.imports import export_state, import_state

Agree = Callable[..., tuple[nn.Module, float]]
Near = Callable[..., None]
Rows = dict[tuple[str, str], float]  # what was compared, with what -> the largest relative difference

PEERS = """# Peers

Written by the tests that compare; what is not installed keeps its row:

```
RAYLOOM_PEERS=docs/benchmarks/peers.md .venv/bin/python -m pytest tests/models/presets -k "equals or agree"
```

The same random weights in both, single precision, on a CPU; the largest difference of an output over the
largest output (1, where outputs are smaller). The tests ask for less than 1e-5.

natten, torchscale and OpenMMLab's packages are not in the set-up: natten above 0.20 lacks the functions that
transformers' DiNAT imports (its source builds without a GPU), torchscale pins an old timm, mmpretrain and
mmaction2 ask for an mmcv to compile. Their rows come from folders of their own on PYTHONPATH, the last two's
from one made by

```
uv pip install --target FOLDER --no-deps mmpretrain mmaction2 mmengine "mmcv-lite<2.2" model-index \\
    modelindex ordered-set einops mat4py addict yapf platformdirs termcolor
```

mmpretrain's T2T-ViT divides scores by 1 / sqrt(64) where it means to multiply, and takes that width in the
narrow layers, where its own text and the authors' code take the wide one; the test sets these divisors right.
mmaction2's UniFormer has an eps of 1e-5 in the norms of attention blocks, the authors' code and our preset
one of 1e-6; the test gives ours 1e-5.

Not comparable: vit-pytorch's T2T-ViT does not narrow tokens to 64 channels as the paper does;
uniformer-pytorch shares an affinity among the channels of a head and norms otherwise than the authors' code;
flash-attn needs a compiler for GPUs.

| ours | peer | largest relative difference |
| --- | --- | --- |
"""


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
def mmpretrain(timm: types.ModuleType) -> types.ModuleType:
    """OpenMMLab's image models; `timm` is asked for its stand-in of torchvision."""
    return import_openmmlab("mmpretrain.models")


@pytest.fixture(scope="session")
def mmaction(timm: types.ModuleType) -> types.ModuleType:
    """OpenMMLab's video models: the registry of UniFormer and of heads.

    The package's wheel lacks a folder that its `mmaction.models` imports, so that package is not run.
    """
    import_openmmlab("mmaction")
    folder = Path(str(sys.modules["mmaction"].__file__)).parent / "models"
    for name in ("models", "models.backbones", "models.heads", "models.losses"):
        package = types.ModuleType(f"mmaction.{name}")
        package.__path__ = [str(folder.parent.joinpath(*name.split(".")))]
        sys.modules.setdefault(package.__name__, package)
    for part in ("backbones.uniformer", "heads.i3d_head", "losses.cross_entropy_loss"):
        import_openmmlab(f"mmaction.models.{part}")
    return import_openmmlab("mmaction.registry")


def import_openmmlab(name: str) -> Any:
    """What the tests raise as errors, warnings at import, is none of ours here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name)


@pytest.fixture(scope="session")
def peers() -> Iterator[Rows]:
    """What was compared; RAYLOOM_PEERS names a file for the table of it."""
    rows: Rows = {}
    yield rows
    if "RAYLOOM_PEERS" in os.environ:
        path = Path(os.environ["RAYLOOM_PEERS"])
        old = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        lines = {line.rpartition(" | ")[0]: line for line in old if line.startswith("| `")}
        lines |= {f"| {a} | {b}": f"| {a} | {b} | {worst:.1e} |" for (a, b), worst in rows.items()}
        path.write_text(PEERS + "".join(f"{lines[key]}\n" for key in sorted(lines)), encoding="utf-8")


@pytest.fixture
def modules() -> Callable[[Iterable[str]], set[str]]:
    """modules(state): names of the modules that hold its tensors, with # for every number."""
    return lambda names: {re.sub(r"\d+", "#", name.rpartition(".")[0]) for name in names}


@pytest.fixture
def memory() -> Callable[[Callable[[], Any]], tuple[int, int]]:
    """memory(call): bytes of all storages that a call makes, and of the largest."""

    class Watch(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.sizes: dict[int, int] = {}
            self.kept: list[Any] = []  # so that no address is used twice

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            made = function(*args, **(kwargs or {}))
            for tensor in tree_leaves(made):
                if isinstance(tensor, Tensor):
                    storage = tensor.untyped_storage()
                    self.sizes[storage.data_ptr()] = storage.nbytes()
                    self.kept.append(tensor)
            return made

    def measure(call: Callable[[], Any]) -> tuple[int, int]:
        with Watch() as watch:
            call()
        return sum(watch.sizes.values()), max(watch.sizes.values())

    return measure


@pytest.fixture(scope="session")
def agree(peers: Rows) -> Agree:
    return functools.partial(check_agreement, peers)


@pytest.fixture(scope="session")
def near(peers: Rows) -> Near:
    """near("agent", "natten", "na2d", got, want): outputs of a part of ours and of a peer's are the same."""
    return functools.partial(check_near, peers)


def check_near(
    peers: Rows, ours: str, package: str, theirs: str, got: Tensor, want: Tensor, *, tolerance: float = 1e-5
) -> float:
    """The largest difference over the largest output, or over 1."""
    assert want.std() > 1e-3, "the peer's answer must vary, or agreement says nothing"
    scale = max(1.0, float(want.abs().max()))
    assert_close(got / scale, want / scale, atol=tolerance, rtol=0)
    key = (f"`{ours}`", f"{package} {importlib.metadata.version(package)}, `{theirs}`")
    peers[key] = max(peers.get(key, 0.0), worst := float((got - want).abs().max()) / scale)
    return worst


def check_agreement(
    peers: Rows,
    name: str,
    peer: nn.Module,
    *,
    source: str,
    sizes: Sequence[tuple[int, ...]],
    tolerance: float = 1e-5,
    options: dict[str, Any] | None = None,
    std: float = 0.05,
    logits: Callable[[Any], Tensor] = lambda y: getattr(y, "logits", y),
    title: str | None = None,
    fixed: Collection[str] = (),
) -> tuple[nn.Module, float]:
    """Both give the same logits with the same random weights, at every size, and names survive a round trip.

    Every parameter and statistic of the peer is drawn anew: tables that start at zero would hide mistakes.
    `title` names the peer in the table, by default its class; `fixed` are buffers that are no parameters.
    Returns our model and the largest difference.
    """
    peer = copy.deepcopy(peer).eval()
    draw = torch.Generator().manual_seed(0)
    state = {}
    for key, value in peer.state_dict().items():
        if not value.is_floating_point() or key in fixed:
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
        assert_close(value, theirs[key], atol=1e-6, rtol=0, msg=key)  # a rule that adds may round
    worst = 0.0
    for size in sizes:
        x = torch.randn(2, 3, *size, generator=draw)
        with torch.no_grad():
            want, got = logits(copy.deepcopy(peer)(x)), ours(x)  # some peers remember sizes they saw
        theirs_is = title or type(peer).__name__
        difference = check_near(peers, name, source, theirs_is, got, want, tolerance=tolerance)
        worst = max(worst, difference)
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
    names += ["torchvision.models.feature_extraction", "torchvision.ops.boxes"]
    names += ["torchvision.transforms.transforms"]
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
