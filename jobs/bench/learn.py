"""Published systems against the best linear map on the same held-out data: does what was built learn?"""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jobs.recipes
from jobs import ingest, train
from jobs.bench.linear import Baseline, baseline
from jobs.cluster import cluster
from jobs.config.load import load_job
from jobs.config.schema import IngestJob, TrainJob
from jobs.recipes import speeds, tiles

RECIPES = Path(jobs.recipes.__file__).parent
METRICS = {
    "classification": "accuracy",
    "segmentation": "overall_accuracy",
    "regression": "angular_error_deg",
}

Options = Mapping[str, Any]


@dataclass(frozen=True)
class Trial:
    """A recipe, what is changed in its files, and the models that learn it, with their options."""

    question: str
    task: str  # file of the recipe beside ingest.yaml
    models: Mapping[str, Options]
    write: Callable[[Path], object] | None = None  # makes the files that are ingested
    ingest: Sequence[str] = ()  # overrides
    train: Sequence[str] = ()
    recipe: str = field(kw_only=True)


LIGHT = {"per_frame": True, "unit": True}
TRIALS = {
    "image": Trial(
        "Which photograph is a tile of?",
        "classification",
        {"swin_nano": {}, "davit_nano": {}, "poolformer_nano": {}},
        tiles.write,
        recipe="textures",
    ),
    "video": Trial(
        "How fast is a film played?",
        "classification",
        {"uniformer_video_nano": {}, "fna_video_nano": {}},
        speeds.write,
        recipe="speeds",
    ),
    "pointcloud": Trial(
        "Is a point of the ground?",
        "segmentation",
        {"flatformer_nano": {}, "scatterformer_nano": {}},
        recipe="laser_scan",
    ),
    "hyperspectral": Trial(
        "Which material is a pixel, by 4 of 198 bands?",
        "segmentation",
        {"less_vit_nano": {}, "channelvit_nano": {}},
        recipe="jasper_ridge",
    ),
    "lighting": Trial(
        "Where does the light come from?",
        "regression",
        {"uniformer_video_nano": LIGHT, "fna_video_nano": LIGHT},
        recipe="lights",
    ),
}


def run(trial: Trial, root: Path) -> dict[str, Any]:
    """Ingest once, train every model by the recipe, and say what each reaches on what was held out."""
    source, dataset = root / trial.recipe / "files", root / trial.recipe / "dataset"
    overrides = [f"output={dataset}", *trial.ingest]
    if trial.write:
        if not source.exists():
            trial.write(source)
        table = sorted(source.glob("*.csv"))
        overrides.append(f"source.uri={table[0] if table else source}")
    ingest.ingest_dataset(_load(IngestJob, trial.recipe, "ingest", overrides))
    rows, found = [], None
    for name, options in trial.models.items():
        overrides = [
            f"dataset={dataset}", f"output={root / trial.recipe / name}", f"model.name={name}",
            f"model.options={json.dumps(dict(options))}", *trial.train,
        ]  # fmt: skip
        job = _load(TrainJob, trial.recipe, trial.task, overrides)
        found = found or baseline(job)
        began = time.monotonic()
        summary = train.train_model(job)
        value = summary["metrics"][f"{job.validation.split}_{METRICS[job.task]}"]
        rows.append({"model": name, "value": value, "seconds": round(time.monotonic() - began)})
        print(f"{trial.question:<48}{name:<24}{METRICS[job.task]} {value:.4f}", flush=True)
    return _result(trial, job, found or baseline(job), rows)


def _load(kind: type[Any], recipe: str, name: str, overrides: Sequence[str]) -> Any:
    job = load_job(RECIPES / recipe / f"{name}.yaml", overrides)
    if not isinstance(job, kind):
        raise TypeError(
            f"jobs/recipes/{recipe}/{name}.yaml must hold a {kind.__name__}, got {type(job).__name__}"
        )
    return job


def _result(trial: Trial, job: TrainJob, found: Baseline, rows: Sequence[Options]) -> dict[str, Any]:
    sign = -1 if job.task == "regression" else 1
    return {
        "question": trial.question,
        "metric": METRICS[job.task],
        **found._asdict(),
        "steps": job.steps,
        "batch_size": job.batch_size,
        "learning_rate": job.learning_rate,
        "rows": list(rows),
        "beaten_by": sum(sign * (row["value"] - found.linear) > 0 for row in rows),
    }


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """As Markdown."""
    lines = [
        "| question | metric, held out | chance | linear | system | reaches | seconds | steps x batch, rate |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for result in results.values():
        for row in result["rows"]:
            settings = f"{result['steps']} x {result['batch_size']}, {result['learning_rate']:g}"
            numbers = " | ".join(f"{v:.3f}" for v in (result["chance"], result["linear"]))
            lines.append(
                f"| {result['question']} | {result['metric']} | {numbers} | `{row['model']}` | "
                f"{row['value']:.3f} | {row['seconds']} | {settings} |"
            )
    return "\n".join(lines)


def main() -> int:
    """Exit code 0 when at least two systems beat the linear map on every kind of data asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", default=list(TRIALS), help=f"of {', '.join(TRIALS)}")
    parser.add_argument("--output", type=Path, default=Path("recipes/learn"))
    options = parser.parse_args()
    root = options.output.absolute()
    root.mkdir(parents=True, exist_ok=True)
    book = root / "learn.json"
    results = json.loads(book.read_text()) if book.exists() else {}
    with cluster():
        for kind in options.kinds:
            results[kind] = run(TRIALS[kind], root)
    book.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(f"\n{table(results)}")
    return 0 if all(results[kind]["beaten_by"] >= 2 for kind in options.kinds) else 1


if __name__ == "__main__":
    raise SystemExit(main())
