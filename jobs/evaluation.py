"""Measuring a model on held-out samples, and which measurement was the best."""

import math
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor

from jobs.parallel import gather

# What a run's best checkpoint is best in, unless its job names it: the first of these that was measured.
CHOSEN: Final = ("accuracy", "overall_accuracy", "angular_error_deg", "absolute_error", "masked_mse")
HIGHER: Final = frozenset(
    ("accuracy", "pixel_accuracy", "overall_accuracy", "average_accuracy", "kappa", "mean_iou")
)
Totals = dict[
    str, list[float]
]  # of a metric: sum and number of values; of "confusion": the table, row by row


def measure(
    accelerator: Any, task: Any, loader: Any, *, spare: Mapping[str, Tensor] | None = None
) -> dict[str, float]:
    """The mean of every metric over the loader's samples, each once, of all workers together.

    A worker without a share of a last, small batch leaves it out, or runs `spare` where all must take part.
    """
    task.eval()
    totals: Totals = {}
    with torch.no_grad():
        for batch in loader:
            if not len(batch["key"]):
                if spare is not None:
                    task(spare)
                continue
            tensors = {k: v.to(accelerator.device) for k, v in batch.items() if isinstance(v, Tensor)}
            with accelerator.autocast():
                outputs = task(tensors)
            for name, values in task.metrics(outputs, tensors).items():
                counted = values[~values.isnan()].double()  # NaN: the sample has nothing to judge
                _add(totals, name, [float(counted.sum()), float(len(counted))])
            table = task.confusion(outputs, tensors)
            if table is not None:
                _add(totals, "confusion", table.flatten().tolist())
    whole: Totals = {}
    for part in gather(totals, accelerator.device):
        for name, values in part.items():
            _add(whole, name, values)
    counts = whole.pop("confusion", None)
    found = {name: total / max(1.0, count) for name, (total, count) in sorted(whole.items())}
    return found if counts is None else found | agreement(counts)


def agreement(confusion: list[float]) -> dict[str, float]:
    """Overall and average accuracy, Cohen's kappa and mean IoU of a table (true class, predicted class).

    Classes that never occur have no part in the averages. Cohen, 1960, Educ. Psychol. Meas. 20(1), eq. 1.
    """
    k = math.isqrt(len(confusion))
    table = torch.tensor(confusion, dtype=torch.float64).view(k, k)
    total, right = table.sum(), table.diagonal()
    if total == 0:
        return {}
    true, said = table.sum(1), table.sum(0)
    chance = (true * said).sum() / total**2
    overall = right.sum() / total
    kappa = (overall - chance) / (1 - chance) if chance < 1 else torch.tensor(math.nan)
    return {
        "overall_accuracy": float(overall),
        "average_accuracy": float((right / true)[true > 0].mean()),
        "kappa": float(kappa),
        "mean_iou": float((right / (true + said - right))[true > 0].mean()),
    }


def better(metrics: Mapping[str, float], best: Mapping[str, Any] | None, *, metric: str | None) -> Any:
    """The measurement {"metric", "value"} if it is better than the best so far, else None.

    LookupError when the metric asked for was not measured.
    """
    name = metric or next((name for name in CHOSEN if name in metrics), None)
    if name is None or name not in metrics:
        raise LookupError(
            f"validation.metric: {name!r} is not measured; there are {', '.join(sorted(metrics))}"
        )
    value = metrics[name]
    if math.isnan(value):
        return None
    sign = 1 if name in HIGHER else -1
    if best is not None and sign * value <= sign * best["value"]:
        return None
    return {"metric": name, "value": value}


def _add(totals: Totals, name: str, values: list[float]) -> None:
    old = totals.setdefault(name, [0.0] * len(values))
    totals[name] = [a + b for a, b in zip(old, values, strict=True)]
