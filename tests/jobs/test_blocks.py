"""Blocks compiled or computed again give the numbers of blocks that run as they are written."""

import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from jobs.blocks import prepare_blocks
from models import create_task

CASES = [
    {"recompute": True},
    {"compile": "eager"},
    {"compile": "eager", "recompute": True},
]


def losses(small: bool = False, **how: object) -> list[float]:
    """Of three steps of SGD from the same weights on the same batch; a small model has one block."""
    torch.manual_seed(0)
    options = {"dims": (24,), "depths": (1,)} if small else {}
    task = create_task("classification", model="window_nano", inputs={"x": "image"}, num_outputs=3, **options)
    assert prepare_blocks(task, **how) > 0  # type: ignore[arg-type]
    batch: dict[str, Tensor] = {"image": torch.randn(4, 3, 24, 24), "label": torch.tensor([0, 1, 2, 0])}
    sgd, found = torch.optim.SGD(task.parameters(), lr=0.05), []
    for _ in range(3):
        loss = task(batch)["loss"]
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        found.append(loss.item())
    return found


# torch.compile warns of its own ways: it looks at gradients of tensors, and loads old modules of torch.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("how", CASES, ids=str)
def test_losses_are_those_of_plain_blocks(how: dict[str, object]) -> None:
    plain = losses()
    assert plain[0] != plain[2]
    assert losses(**how) == pytest.approx(plain, rel=1e-5)


@pytest.mark.compile
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
def test_losses_of_a_generated_kernel_are_those_of_a_plain_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a build that was killed leaves a broken library in the shared cache, which is then loaded
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    assert losses(small=True, compile="inductor") == pytest.approx(losses(small=True), rel=1e-5)


def test_a_recomputed_block_keeps_nothing_but_its_input() -> None:
    def kept(recompute: bool) -> int:
        torch.manual_seed(0)
        task = create_task("classification", model="window_nano", inputs={"x": "image"}, num_outputs=3)
        prepare_blocks(task, recompute=recompute)
        held = 0

        def count(x: Tensor) -> Tensor:
            nonlocal held
            held += x.nbytes
            return x

        batch = {"image": torch.randn(4, 3, 24, 24), "label": torch.tensor([0, 1, 2, 0])}
        with torch.autograd.graph.saved_tensors_hooks(count, lambda x: x):
            task(batch)
        return held

    assert kept(True) < 0.5 * kept(False)


def test_the_names_of_the_weights_stay() -> None:
    tasks = [
        create_task("classification", model="window_nano", inputs={"x": "image"}, num_outputs=3) for _ in "ab"
    ]
    prepare_blocks(tasks[1], compile="eager", recompute=True)
    assert list(tasks[0].state_dict()) == list(tasks[1].state_dict())
