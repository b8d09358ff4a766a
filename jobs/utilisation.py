"""Model FLOP utilisation: what a model must compute for a step, over what its device could in that time."""

import time
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor

# Matrix products of dense bf16 (fp16) in FLOP/s, as the makers' data sheets have it; the longest name that
# is in the device's name counts. Fp32 is not listed: it depends on TF32, so it is measured.
PEAKS: Final[Mapping[str, float]] = {
    "B200": 2250e12,
    "H200": 989.4e12,
    "H100": 989.4e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "A100": 312e12,
    "A10": 125e12,
    "L40S": 362e12,
    "L4": 121e12,
    "V100": 125e12,
    "T4": 65e12,
    "MI300X": 1307e12,
}
SIDE: Final = 768  # of the matrices whose product is timed where no table helps


def peak_flops(device: torch.device, precision: str) -> tuple[float, str]:
    """FLOP/s of one device in matrix products, and whether that is of the "table" or "measured"."""
    if device.type == "cuda" and precision != "fp32":
        name = torch.cuda.get_device_name(device)
        known = [part for part in PEAKS if part in name]
        if known:
            return PEAKS[max(known, key=len)], "table"
    side = SIDE if device.type == "cpu" else 8 * SIDE
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    left = torch.ones(side, side, dtype=dtype, device=device)
    best = min(_seconds(left) for _ in range(4))
    return 2 * side**3 / best, "measured"


def _seconds(left: Tensor) -> float:
    began = time.perf_counter()
    product = left @ left
    product[0, 0].item()  # waits for a GPU
    return time.perf_counter() - began


def sample_flops(spec: Mapping[str, Any], batch: Mapping[str, Any], task_number: int = 0) -> float:
    """FLOPs of a forward and a backward pass of one sample, recomputation apart; counted on two at most.

    On a CPU and a copy of the model: what compiled or fused kernels compute cannot be seen from outside.
    """
    from jobs.wiring import build_task
    from models.ops.flops import count_flops

    task = build_task(spec).train()
    part: dict[str, Any] = {n: value[:2].cpu() for n, value in batch.items() if isinstance(value, Tensor)}
    samples = len(next(iter(part.values())))
    part["task"] = task_number
    return count_flops(lambda: task(part)["loss"].backward()) / samples
