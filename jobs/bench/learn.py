"""Published systems against the best linear map on the same held-out data: does what was built learn?"""

import argparse
import json
import shutil
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jobs.recipes
from jobs import ingest, train
from jobs.bench.linear import Baseline, baseline
from jobs.config.load import load_job
from jobs.config.schema import IngestJob, TrainJob
from jobs.loop import Run
from jobs.recipes import scans, speeds, tiles
from pipelines.shards.dataset import Dataset

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
    ingest: Sequence[str] = ()  # overrides: "val" is for choosing settings, "test" for what is said of them
    train: Sequence[str] = ()  # overrides
    recipe: str = field(kw_only=True)


BATCH = {"block.norm": "batch", "backbone.norm": "batch"}  # on smooth data these start sooner
BLOCKS = [  # of 8 x 8 pixels, 2 between any two of them
    {"kind": "cut", "how": "tiles", "options": {"size": 10}},
    {"kind": "transform", "how": "crop", "options": {"y": 1, "x": 1, "height": 8, "width": 8}},
]
LIGHT = {"per_frame": True, "unit": True}
TRIALS = {
    "image": Trial(
        "Which photograph is a tile of?",
        "classification",
        {"swin_nano": {}, "davit_nano": {}},
        tiles.write,
        ingest=["split.val=0.15", "split.test=0.25"],
        train=["steps=150"],
        recipe="textures",
    ),
    "video": Trial(
        "How fast is a film played?",
        "classification",
        {"uniformer_video_nano": {}, "fna_video_nano": BATCH},
        speeds.write,
        ingest=["split.val=0.2", "split.test=0.3"],
        recipe="speeds",
    ),
    "pointcloud": Trial(
        "Which scanner saw these 256 points?",
        "classification",
        {"scatterformer_nano": {}, "flatformer_nano": {**BATCH, "block.order": "pre"}},
        scans.write,
        ingest=["split.val=0.15", "split.test=0.25"],
        recipe="scans",
    ),
    "hyperspectral": Trial(
        "Which material is a pixel, by 2 of 198 bands?",
        "segmentation",
        {  # the file names no wavelengths to tell bands by: one token a pixel
            "less_vit_nano": {**BATCH, "patch": 1, "stem.bands": 2, "metres": 10.0, "radius": 30.0},
            "channelvit_nano": {
                **BATCH, "patch": 1, "stem.bands": 2, "sample": False, "dim": 32, "depth": 2, "head_dim": 16,
                "init_std": None,
            },
        },
        ingest=["split.val=0.2", "split.test=0.3", f"stages={json.dumps(BLOCKS)}"],
        train=[
            "data.bands=2", "data.size=8", "batch_size=16", "steps=500", "learning_rate=2e-3",
            "weight_decay=0.05", "average=0.99",
        ],
        recipe="jasper_ridge",
    ),
    "lighting": Trial(
        "Where does the light come from?",
        "regression",
        {
            "uniformer_video_nano": LIGHT,
            "fna_video_nano": {**LIGHT, **BATCH, "stem.frames": 1, "stem.patch": 4, "dim": 48, "depth": 3},
        },
        ingest=["source.synth=400", "split.val=0.2", "split.test=0.2"],
        train=["steps=300", "learning_rate=3e-3"],
        recipe="lights",
    ),
}  # fmt: skip


def dataset(trial: Trial, root: Path) -> Path:
    """Where it is, ingested unless it was."""
    source, place = root / trial.recipe / "files", root / trial.recipe / "dataset"
    overrides = [f"output={place}", *trial.ingest]
    if trial.write:
        if not source.exists():
            trial.write(source)
        table = sorted(source.glob("*.csv"))
        overrides.append(f"source.uri={table[0] if table else source}")
    ingest.ingest_dataset(_load(IngestJob, trial.recipe, "ingest", overrides))
    return place


def run(trial: Trial, root: Path, *, split: str = "test", seeds: int = 3) -> dict[str, Any]:
    """Train every model by the recipe, in this process, and say what each reaches on what was held out."""
    place = dataset(trial, root)

    def job_of(name: str, seed: int) -> TrainJob:
        options = json.dumps(dict(trial.models[name]))
        overrides = [
            f"dataset={place}", f"output={root / trial.recipe / name}", f"model.name={name}",
            f"model.options={options}", f"seed={seed}", f"validation.split={split}", *trial.train,
        ]  # fmt: skip
        job: TrainJob = _load(TrainJob, trial.recipe, trial.task, overrides)
        return job

    job = job_of(next(iter(trial.models)), 0)
    found, rows = baseline(job), []
    for name in trial.models:
        began = time.process_time()
        values = [_held_out(job_of(name, seed)) for seed in range(seeds)]
        seconds = round((time.process_time() - began) / seeds)
        rows.append({"model": name, "values": values, "seconds": seconds})
        reached = " ".join(f"{value:.4f}" for value in values)
        print(f"{trial.question:<48}{name:<24}{METRICS[job.task]} {reached}", flush=True)
    return _result(trial, job, found, rows)


def _held_out(job: TrainJob) -> float:
    """What a model reaches on the job's validation split."""
    shutil.rmtree(job.output, ignore_errors=True)  # a run of an earlier time would be taken up
    training = Run(train.run_config(job, Dataset.open(job.dataset)))
    training.work()
    return float(training.summary["metrics"][f"{job.validation.split}_{METRICS[job.task]}"])


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
        "split": job.validation.split,
        **found._asdict(),
        "steps": job.steps,
        "batch_size": job.batch_size,
        "learning_rate": job.learning_rate,
        "rows": list(rows),
        "beaten_by": sum(ahead([sign * v for v in row["values"]], sign * found.linear) for row in rows),
    }


def ahead(values: Sequence[float], linear: float) -> bool:
    """The mean over seeds is above the linear map by more than the seeds lie apart."""
    return statistics.mean(values) - linear > max(values) - min(values)


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """As Markdown."""
    lines = [
        "| question | metric, held out | chance | linear | system | reaches, mean | of seeds | CPU s | "
        "steps x batch, rate |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for result in results.values():
        for row in result["rows"]:
            settings = f"{result['steps']} x {result['batch_size']}, {result['learning_rate']:g}"
            numbers = " | ".join(f"{v:.3f}" for v in (result["chance"], result["linear"]))
            seeds = " ".join(f"{v:.3f}" for v in row["values"])
            lines.append(
                f"| {result['question']} | {result['metric']} | {numbers} | `{row['model']}` | "
                f"{statistics.mean(row['values']):.3f} | {seeds} | {row['seconds']} | {settings} |"
            )
    return "\n".join(lines)


def main() -> int:
    """Exit code 0 when at least two systems are ahead of the linear map on every kind of data asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", default=list(TRIALS), help=f"of {', '.join(TRIALS)}")
    parser.add_argument("--output", type=Path, default=Path("recipes/learn"))
    parser.add_argument("--split", default="test", help="val: to choose settings by")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    root = options.output.absolute()
    root.mkdir(parents=True, exist_ok=True)
    results = {k: run(TRIALS[k], root, split=options.split, seeds=options.seeds) for k in options.kinds}
    for kind, result in results.items():
        (root / f"{kind}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"\n{table(results)}")
    return 0 if all(result["beaten_by"] >= 2 for result in results.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
