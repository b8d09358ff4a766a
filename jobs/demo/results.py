"""What came out of a study, measured against its chance level."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.demo.studies import Study
from pipelines.graphs.predict import read_predictions
from pipelines.loading import Loader
from pipelines.shards.dataset import Dataset


@dataclass(frozen=True, kw_only=True)
class Result:
    """Numbers and tables of one finished study."""

    study: Study
    datasets: Sequence[Dataset]
    books: Sequence[Any]
    log: Sequence[Mapping[str, float]]
    metric: float
    chance: float
    predictions: Any  # pyarrow table
    seconds: Mapping[str, float]

    @property
    def learned(self) -> bool:
        """Whether the held-out metric is on the right side of chance."""
        ahead = self.metric - self.chance
        return ahead > 0 if self.study.better == "higher" else ahead < 0

    @property
    def losses(self) -> NDArray[np.float64]:
        """(steps, 2): step and training loss."""
        return np.array([(r["step"], r["loss"]) for r in self.log if "loss" in r])

    def held_out(self, name: str) -> NDArray[np.float64]:
        """(n, 2): step and a metric of the held-out split."""
        key = f"{self.study.train.validation.split}_{name}"
        return np.array([(r["step"], r[key]) for r in self.log if key in r])

    def sentence(self) -> str:
        unit = " degrees" if self.study.metric.endswith("_deg") else ""
        return f"{self.study.metric} {self.metric:.4g}{unit} on held-out data, chance {self.chance:.4g}{unit}"

    def row(self) -> tuple[str, ...]:
        books = self.books[-1]
        losses = self.losses[:, 1]
        few = max(1, len(losses) // 10)
        left = sum(b.quarantined + b.duplicates + b.filtered for b in self.books)
        return (
            self.study.title,
            str(sum(b.inputs for b in self.books)),
            str(books.written),
            str(left),
            f"{losses[:few].mean():.3g} -> {losses[-few:].mean():.3g}",
            self.study.metric,
            f"{self.metric:.4g}",
            f"{self.chance:.4g}",
            " + ".join(f"{s:.0f}" for s in self.seconds.values()),
        )


def measure(
    study: Study,
    outcomes: Sequence[Any],
    summary: Mapping[str, Any],
    predictions: Any,
    seconds: Mapping[str, float],
) -> Result:
    """Read back what the jobs stored, and compute the chance level from the data."""
    log = [json.loads(line) for line in Path(study.train.output, "log.jsonl").read_text().splitlines()]
    split = study.train.validation.split
    metrics = summary["metrics"]
    table = read_predictions(study.infer.output)
    assert table.num_rows == sum(part.rows for part in predictions.parts)
    dataset = Dataset.open(study.train.dataset)
    chance = metrics.get(f"{split}_{study.chance}")
    return Result(
        study=study,
        datasets=[Dataset.open(job.output) for job in study.ingests],
        books=[outcome.books for outcome in outcomes],
        log=log,
        metric=metrics[f"{split}_{study.metric}"],
        chance=_chance(study, dataset) if chance is None else chance,
        predictions=table,
        seconds=seconds,
    )


def _chance(study: Study, dataset: Dataset) -> float:
    """The score of the best answer that does not look at the sample, chosen with the truth in view."""
    field = {"classification": "label", "segmentation": "segmentation", "regression": "light"}[
        study.train.task
    ]
    split = study.train.validation.split
    loader = Loader(dataset, batch_size=16, split=split, shuffle=False, options=dict(study.train.data))
    truth = np.concatenate([batch[field].numpy() for batch in loader])
    if study.train.task == "regression":
        truth = truth.reshape(-1, 3)
        mean = truth.mean(0)
        cosines = truth @ (mean / np.linalg.norm(mean))
        return float(np.rad2deg(np.arccos(cosines.clip(-1, 1))).mean())
    known = truth[truth >= 0]
    return float(np.bincount(known).max() / len(known))
