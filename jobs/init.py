"""`rayloom init DIR`: commented job files for every kind of data, which run as they stand."""

import json
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Final

TEMPLATES: Final = Path(__file__).parent / "templates"
KINDS: Final = ("ingest", "train", "infer")


@dataclass(frozen=True, kw_only=True)
class Example:
    """What differs from one kind of data to the next."""

    files: str  # what raw files look like, for a comment
    stages: str  # an example, as the text of a YAML list
    task: str
    model: str
    data: str


EXAMPLES: Final = {
    "image": Example(
        files="photos/ with a folder a class: .jpg .png .webp .tif .gif .bmp",
        stages="[{kind: filter, field: meta.width, min: 64}]",
        task="classification",
        model="window_nano",
        data="{size: 48}",
    ),
    "video": Example(
        files="clips/ with a folder a class: .mp4 .mov .mkv .webm .avi",
        stages="[{kind: cut, how: clips}]",
        task="classification",
        model="video_nano",
        data="{frames: 8, size: 32}",
    ),
    "pointcloud": Example(
        files="scans/: .ply .pcd .las .laz .xyz .csv .bin .npy",
        stages="[{kind: cut, how: tiles}]",
        task="classification",
        model="points_nano",
        data="{num_points: 512}",
    ),
    "hyperspectral": Example(
        files="scenes/: ENVI, .tif, .h5, .mat, .nc, .npy, .zarr/",
        stages="[{kind: cut, how: tiles}]",
        task="classification",
        model="spectral_nano",
        data="{}",
    ),
    "lighting": Example(
        files="renders/ with a folder of frames a sequence",
        stages="[{kind: filter, field: meta.num_frames, min: 2}]",
        task="regression",
        model="light_nano",
        data="{}",
    ),
}


def write(folder: Path, *, force: bool = False) -> list[Path]:
    """Write DIR/<modality>/{ingest,train,infer}.yaml and return their paths, in the order to run them.

    FileExistsError, before anything is written, when one is there and `force` is not given.
    """
    texts = {
        folder / modality / f"{kind}.yaml": _render(kind, modality, example, folder / modality)
        for modality, example in EXAMPLES.items()
        for kind in KINDS
    }
    if not force and (there := [path for path in texts if path.exists()]):
        raise ValueError(f"{there[0]} is there already; give another folder, or --force to overwrite")
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return list(texts)


def _render(kind: str, modality: str, example: Example, folder: Path) -> str:
    template = Template((TEMPLATES / f"{kind}.yaml").read_text(encoding="utf-8"))
    return template.substitute(
        modality=modality,
        job=folder / f"{kind}.yaml",
        dataset=_quoted(folder / "dataset"),
        run=_quoted(folder / "run"),
        predictions=_quoted(folder / "predictions"),
        **{name: getattr(example, name) for name in ("files", "stages", "task", "model", "data")},
    )


def _quoted(path: Path) -> str:
    return json.dumps(str(path), ensure_ascii=False)
