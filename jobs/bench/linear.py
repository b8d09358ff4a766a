"""The best linear map from a job's prepared arrays to its answers: what a network must beat."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from jobs.config.schema import TrainJob
from jobs.wiring import INPUTS, task_spec
from pipelines.loading import Loader
from pipelines.shards.dataset import Dataset

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
RASTERS = ("image", "hyperspectral")
REACHES = (0, 1, 2, 3)  # pixels to each side that a map of single pixels may see, too


class Baseline(NamedTuple):
    """Held out: what a linear map reaches, and what an answer reaches that knows only the training labels."""

    linear: float
    chance: float
    features: int


def baseline(job: TrainJob) -> Baseline:
    """Accuracy, or for directions the mean angle in degrees, on the job's validation split.

    Logistic regression for classes, of samples or of places, and ridge regression for directions, on the
    arrays that the job's model takes, not augmented, each feature standardised; for pixels also on those
    around them. Fitted until it converges, with the penalty and the reach that are best on the held-out
    samples themselves: the comparison errs in its favour.
    """
    dataset = Dataset.open(job.dataset)
    spec = task_spec(job, dataset)
    reaches = REACHES if job.task == "segmentation" and spec["modality"] in RASTERS else (0,)
    found = [_fitted(job, spec, dataset, reach) for reach in reaches]
    return min(found) if job.task == "regression" else max(found)


def _fitted(job: TrainJob, spec: dict[str, Any], dataset: Dataset, reach: int) -> Baseline:
    splits = ("train", job.validation.split)
    (x, y), (seen, truth) = (arrays(spec, dataset, split, reach) for split in splits)
    mean, std = x.mean(0), x.std(0).clamp(min=1e-6)
    features = x.shape[1]
    x, seen = narrowed((x - mean) / std, (seen - mean) / std)
    if job.task == "regression":
        fits = [degrees(seen @ w + b, truth) for w, b in (ridge(x, y, penalty) for penalty in PENALTIES)]
        return Baseline(min(fits), degrees(y.mean(0).expand_as(truth), truth), features)
    fits = [share(seen @ w + b, truth) for w, b in logistic(x, y, PENALTIES)]
    return Baseline(max(fits), float((truth == y.mode().values).double().mean()), features)


def arrays(spec: dict[str, Any], dataset: Dataset, split: str, reach: int = 0) -> tuple[Tensor, Tensor]:
    """Features (n, f) and answers (n,) or (n, 3): of samples, of labelled places, or of frames."""
    labelled = spec["task"] == "classification"
    loader = Loader(
        dataset, split=split, shuffle=False, batch_size=32, options=spec["data"], targets=spec["targets"],
        labelled=labelled,
    )  # fmt: skip
    parts = [examples(spec["modality"], spec["task"], batch, reach) for batch in loader]
    x, y = (torch.cat(part) for part in zip(*parts, strict=True))
    kept = y >= 0 if y.ndim == 1 else torch.ones(len(y), dtype=torch.bool)
    return x[kept].float(), y[kept]


def examples(modality: str, task: str, batch: dict[str, Any], reach: int = 0) -> tuple[Tensor, Tensor]:
    """One batch of the loader as examples of what is to be told; pixels with those within `reach` of them."""
    x = batch[INPUTS[modality]["x"]]
    if modality == "pointcloud":
        x = torch.cat([x, batch["points"]], -1)
    if task == "classification":
        return x.flatten(1), batch["label"]
    if reach:
        around = F.pad(x, (reach,) * 4, mode="replicate")
        x = F.unfold(around, 2 * reach + 1).view(len(x), -1, *x.shape[2:])
    if task == "segmentation":
        places = x if modality == "pointcloud" else x.movedim(1, -1)
        return places.flatten(0, -2), batch["segmentation"].flatten()
    return x.movedim(2, 1).flatten(2).flatten(0, 1), batch["light"].flatten(0, 1)  # frame by frame


def narrowed(x: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """(n, f) and (m, f) in a basis of what the rows of `x` span, where those are fewer than the features.

    Penalised by their squares, weights lie in that span: the same maps, found in a fraction of the time.
    """
    if x.shape[1] <= len(x):
        return x, seen
    basis = torch.linalg.qr(x.mT).Q
    return x @ basis, seen @ basis


def logistic(x: Tensor, y: Tensor, penalties: Sequence[float]) -> list[tuple[Tensor, Tensor]]:
    """Weights (f, k) and biases (k,) for each penalty, strongest first: each starts where the last ended."""
    k = int(y.max()) + 1
    w, b = torch.zeros(x.shape[1], k, requires_grad=True), torch.zeros(k, requires_grad=True)
    found = []
    for penalty in sorted(penalties, reverse=True):
        solver: Any = torch.optim.LBFGS([w, b], max_iter=200, history_size=20, line_search_fn="strong_wolfe")

        def loss(penalty: float = penalty) -> Tensor:
            value = F.cross_entropy(x @ w + b, y) + penalty / 2 * w.square().sum()
            w.grad, b.grad = torch.autograd.grad(value, (w, b))
            return value.detach()

        solver.step(loss)
        found.append((w.detach().clone(), b.detach().clone()))
    return found


def ridge(x: Tensor, y: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """Least squares, its normal equations in double precision."""
    x, mean = x.double(), y.double().mean(0)
    square = x.mT @ x / len(x) + penalty * torch.eye(x.shape[1], dtype=torch.float64)
    return torch.linalg.solve(square, x.mT @ (y - mean) / len(x)).float(), mean.float()


def share(scores: Tensor, truth: Tensor) -> float:
    """Of right answers."""
    return float((scores.argmax(1) == truth).double().mean())


def degrees(said: Tensor, truth: Tensor) -> float:
    """Mean angle between directions."""
    cosine = F.cosine_similarity(said.double(), truth.double(), dim=-1).clamp(-1, 1)
    return float(cosine.acos().mean()) * 180 / math.pi
