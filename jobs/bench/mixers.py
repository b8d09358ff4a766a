"""Time and memory of every token mixer against the number of tokens, beside what the machine allows."""

import json
import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.layout import Layout
from models.mixers.base import MIXERS, TokenMixer
from models.ops.attention import ATTENTION
from models.ops.attention import facts as attention_facts
from models.ops.dispatch import record
from models.ops.flops import count_flops

DIM = 64
SIDES = (16, 32, 64)  # 256, 1024, 4096 tokens

Row = dict[str, Any]


def given(mixer: TokenMixer, side: int, device: torch.device) -> tuple[Tensor, Layout]:
    """Side x side tokens in the layout that the mixer asks for."""
    n, traits = side * side, mixer.traits
    grid = {None: None, 1: (n,), 2: (side, side), 3: (side // 4, side, 4)}[traits.grid_axes]
    x = torch.randn(1, n, DIM, device=device)
    bands = None
    if traits.wavelengths and grid is not None:
        bands = torch.linspace(400, 1000, grid[0], device=device)[None]
    coords = torch.rand(1, n, 3, device=device) * 2 - 1 if traits.coords else None
    return x, Layout(grid=grid, coords=coords, wavelengths=bands)


def limits(device: torch.device) -> tuple[float, float]:
    """FLOP/s of a large matrix product and bytes/s of a large copy, measured here and now."""
    a = torch.randn(1024, 1024, device=device)
    b = torch.empty(2**24, device=device)
    product = clock(lambda: a @ a, device)
    copy = clock(lambda: b.clone(), device)
    return 2 * 1024**3 / product, 2 * b.nbytes / copy


def clock(call: Callable[[], Any], device: torch.device, repeats: int = 5) -> float:
    """Median seconds of a call."""

    def once() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        began = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began

    once()
    return sorted(once() for _ in range(repeats))[repeats // 2]


def peak_bytes(call: Callable[[], Any], device: torch.device) -> int:
    """The most memory that the call held at once, beyond what was there before."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return torch.cuda.max_memory_allocated() - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler reports each start and stop otherwise
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        call()
    held, most = 0, 0
    results = profile.profiler.kineto_results
    for event in results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


def dispatch_seconds() -> float:
    """What choosing a backend adds to one eager call: facts, refusals, choice."""
    q = torch.randn(1, 1, 16, 8)
    calls = 2000
    began = time.perf_counter()
    for _ in range(calls):
        ATTENTION.choose(attention_facts(q, q, q))
    return (time.perf_counter() - began) / calls


def measure(name: str, side: int, device: torch.device, peaks: tuple[float, float]) -> Row:
    """One mixer at one number of tokens: forward, and forward with backward."""
    torch.manual_seed(0)
    mixer = MIXERS.create(name, DIM).to(device).eval()
    x, layout = given(mixer, side, device)

    def forward() -> Tensor:
        with torch.no_grad():
            y: Tensor = mixer(x, layout)
            return y

    def train() -> None:
        mixer(x.requires_grad_(), layout).square().sum().backward()

    with record() as taken:
        flops = count_flops(forward)
    least = 2 * x.nbytes + parameter_bytes(mixer)  # read x and the weights, write y
    seconds = clock(forward, device)
    return {
        "mixer": name,
        "tokens": x.shape[1],
        "forward_s": seconds,
        "train_s": clock(train, device),
        "train_bytes": peak_bytes(train, device),
        "gflop": flops / 1e9,
        "gflop_per_s": flops / seconds / 1e9,
        "gb_per_s": least / seconds / 1e9,
        "share_of_bound": max(flops / peaks[0], least / peaks[1]) / seconds,
        "backends": sorted(taken),
    }


def parameter_bytes(module: nn.Module) -> int:
    """What must be read once."""
    return sum(parameter.nbytes for parameter in module.parameters())


def bench(names: Sequence[str], device: torch.device, sides: Sequence[int] = SIDES) -> Row:
    """All rows, with the machine's own limits beside them."""
    peaks = limits(device)
    where = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"CPU, {torch.get_num_threads()} threads"
    )
    rows = [measure(name, side, device, peaks) for name in names for side in sides]
    return {
        "device": where,
        "torch": torch.__version__,
        "dim": DIM,
        "matmul_gflop_per_s": peaks[0] / 1e9,
        "copy_gb_per_s": peaks[1] / 1e9,
        "dispatch_us": dispatch_seconds() * 1e6,
        "rows": rows,
    }


def table(result: Row) -> str:
    """The rows as text."""
    head = f"{'mixer':<20}{'tokens':>7}{'forward ms':>12}{'train ms':>10}{'MB':>8}"
    head += f"{'GFLOP/s':>9}{'GB/s':>7}{'bound':>7}  backends"
    lines = [
        f"{result['device']}, torch {result['torch']}, {result['dim']} channels; matrix product "
        f"{result['matmul_gflop_per_s']:.0f} GFLOP/s, copy {result['copy_gb_per_s']:.1f} GB/s; "
        f"choosing a backend {result['dispatch_us']:.1f} us",
        head,
    ]
    for row in result["rows"]:
        times = f"{row['forward_s'] * 1e3:>12.2f}{row['train_s'] * 1e3:>10.2f}"
        rates = f"{row['gflop_per_s']:>9.1f}{row['gb_per_s']:>7.2f}{row['share_of_bound']:>7.0%}"
        lines.append(
            f"{row['mixer']:<20}{row['tokens']:>7}{times}{row['train_bytes'] / 1e6:>8.1f}{rates}"
            f"  {', '.join(row['backends'])}"
        )
    return "\n".join(lines)


def plot(result: Row, path: Path) -> None:
    """Time and memory of a training step against the number of tokens, a line a mixer."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(dict.fromkeys(row["mixer"] for row in result["rows"]))
    figure, panes = pyplot.subplots(1, 2, figsize=(15, 0.25 * len(names) + 4), sharex=True)
    styles = ["-", "--", ":", "-."]
    for i, name in enumerate(names):
        rows = [row for row in result["rows"] if row["mixer"] == name]
        tokens = [row["tokens"] for row in rows]
        look = {
            "label": name,
            "color": f"C{i % 10}",
            "linestyle": styles[i // 10 % 4],
            "marker": ".",
            "linewidth": 1.2,
        }
        panes[0].plot(tokens, [row["train_s"] * 1e3 for row in rows], **look)
        panes[1].plot(tokens, [row["train_bytes"] / 1e6 for row in rows], **look)
    for pane, label in zip(panes, ("ms, forward and backward", "MB held at most"), strict=True):
        pane.set(xscale="log", yscale="log", xlabel="tokens", ylabel=label)
        pane.set_xticks(sorted({row["tokens"] for row in result["rows"]}), minor=False)
        pane.get_xaxis().set_minor_formatter(matplotlib.ticker.NullFormatter())
        pane.get_xaxis().set_major_formatter(matplotlib.ticker.ScalarFormatter())
        pane.grid(alpha=0.3)
    panes[1].legend(
        loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8, ncols=math.ceil(len(names) / 40)
    )
    figure.suptitle(f"Token mixers at {result['dim']} channels, one sample; {result['device']}")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def write(result: Row, folder: Path) -> None:
    """mixers.json and mixers.png."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mixers.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    plot(result, folder / "mixers.png")
