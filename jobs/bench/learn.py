"""Small models against a linear one on the same real data, held out: does what was published also learn?"""

import argparse
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs import ingest, train
from jobs.cluster import cluster
from jobs.config.schema import IngestJob, TrainJob
from jobs.demo.studies import PHOTOS, Study, studies

TILE = 48  # pixels: a photograph is cut into tiles, and a tile is to be told from those of other photographs
TILES = 40  # of a photograph


@dataclass(frozen=True)
class Trial:
    """One data set and the models that learn it; the first is the linear one."""

    title: str
    study: Study
    models: Mapping[str, Mapping[str, Any]]  # name -> options


def trials(root: Path, data: Path | None) -> Iterator[Trial]:
    """One for each kind of data. With `data`, a real laser scan and a real scene of a spectrometer."""
    shipped = {study.modality: study for study in studies(root, None)}
    given = {study.modality: study for study in studies(root / "given", data)} if data else shipped
    light = {"per_frame": True, "unit": True}
    yield Trial(
        "Which photograph is a tile of?",
        photographs(root, shipped["image"]),
        {"linear_image_nano": {}, "poolformer_nano": {}, "davit_nano": {}, "swin_nano": {}},
    )
    yield Trial(
        "Which film is a clip of?",
        shipped["video"],
        {"linear_video_nano": {}, "uniformer_video_nano": {}, "fna_video_nano": {}},
    )
    yield Trial(
        "Is a point of the ground?",
        given["pointcloud"],
        {"linear_points_nano": {}, "flatformer_nano": {}, "scatterformer_nano": {}},
    )
    yield Trial(
        "Which material is a pixel?",
        given["hyperspectral"],
        {"linear_spectral_nano": {}, "less_vit_nano": {}, "channelvit_nano": {}},
    )
    yield Trial(
        "Where does the light come from?",
        shipped["lighting"],
        {"linear_light_nano": {}, "uniformer_video_nano": light, "fna_video_nano": light},
    )


def photographs(root: Path, study: Study) -> Study:
    """Tiles of scikit-image's photographs, a class a photograph; no tile overlaps another."""
    import numpy as np
    import skimage.data
    from PIL import Image

    shipped = Path(skimage.data.__file__).parent
    folder = root / "source" / "tiles"
    for name in PHOTOS:
        with Image.open(shipped / name) as image:
            pixels = np.asarray(image.convert("RGB"))
        places = [
            (y, x)
            for y in range(0, pixels.shape[0] - TILE + 1, TILE)
            for x in range(0, pixels.shape[1] - TILE + 1, TILE)
        ]
        draw = np.random.default_rng(0)
        chosen = draw.permutation(len(places))[:TILES]
        target = folder / Path(name).stem
        target.mkdir(parents=True, exist_ok=True)
        for i in chosen:
            y, x = places[i]
            Image.fromarray(pixels[y : y + TILE, x : x + TILE]).save(target / f"{y}_{x}.png")
    base = study.ingests[-1]
    output = str(root / "tiles" / "dataset")
    job = IngestJob.model_validate(
        {
            "kind": "ingest",
            "modality": "image",
            "source": {"uri": str(folder)},
            "output": output,
            "split": {"val": 0.25},
            "seed": base.seed,
        }
    )
    learned = {"dataset": output, "task": "classification", "data": {"size": TILE}, "batch_size": 32}
    return Study(
        title="Tiles of photographs",
        ingests=[job],
        train=study.train.model_copy(update=learned),
        infer=study.infer,
        metric="accuracy",
        chance="most common class",
        better="higher",
    )


def run(trial: Trial, root: Path, steps: int) -> dict[str, Any]:
    """Ingest once, train every model for the same steps, and say what each reaches on what was held out."""
    for job in trial.study.ingests:
        ingest.ingest_dataset(job)
    rows = []
    for name, options in trial.models.items():
        values = trial.study.train.model_dump() | {
            "model": {"name": name, "options": dict(options)},
            "output": str(root / "runs" / trial.study.modality / name),
            "steps": steps,
        }
        began = time.monotonic()
        summary = train.train_model(TrainJob.model_validate(values))
        value = summary["metrics"][f"val_{trial.study.metric}"]
        rows.append({"model": name, "value": value, "seconds": time.monotonic() - began})
        print(f"{trial.title:<36}{name:<24}{trial.study.metric} {value:.4f}", flush=True)
    linear, *others = [row["value"] for row in rows]
    sign = 1 if trial.study.better == "higher" else -1
    beaten = sum(sign * (value - linear) > 0 for value in others)
    return {
        "title": trial.title,
        "metric": trial.study.metric,
        "steps": steps,
        "rows": rows,
        "beaten_by": beaten,
    }


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """As Markdown."""
    lines = ["| question | held-out metric | model | reaches |", "| --- | --- | --- | --- |"]
    for result in results:
        for row in result["rows"]:
            lines.append(
                f"| {result['title']} | {result['metric']} | `{row['model']}` | {row['value']:.3f} |"
            )
    return "\n".join(lines)


def main() -> int:
    """Exit code 0 when at least two systems beat the linear model on every kind of data."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("learn"))
    parser.add_argument("--data", type=Path, help="a folder with points and hyperspectral, as for the demo")
    parser.add_argument("--steps", type=int, default=150)
    options = parser.parse_args()
    root = options.output.absolute()
    if (root / "source").exists():
        shutil.rmtree(root)  # a trial of an earlier time, and nothing else
    root.mkdir(parents=True, exist_ok=True)
    with cluster():
        results = [run(trial, root, options.steps) for trial in trials(root, options.data)]
    (root / "learn.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(f"\n{table(results)}")
    return 0 if all(result["beaten_by"] >= 2 for result in results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
