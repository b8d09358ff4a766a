"""Pictures of samples and of what a model said about them, as data URIs and inline SVG."""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import modalities
from jobs.demo.results import Result
from modalities.base import BadSample
from modalities.hyperspectral.preview import colour_bands
from modalities.image.transforms import MEAN, STD
from modalities.pointcloud.prepare import FEATURES
from pipelines.loading import load_sample
from pipelines.shards.dataset import Corrupt, Dataset
from pipelines.shards.index import Row
from pipelines.shards.manifest import Shard

PREVIEW_SIDE = 320  # pixels; a page of many samples must stay small
JPEG_FROM = 40_000  # bytes of PNG above which an opaque picture becomes a JPEG
HIDDEN = 138  # grey of what the model did not see
SAME = 1e-5  # values that the model passed through differ less
PANEL = 18  # background of point clouds
VIEW_SIDE = 220  # pixels of one view of a cloud
AZIMUTHS_DEG, ELEVATION_DEG = (-30.0, 35.0), 55.0
# Soil, litter, char, road, tile of the made scenes look like themselves; then others, far apart.
MAP_COLOURS = np.array(
    [
        [150, 100, 55], [222, 190, 110], [92, 84, 108], [165, 170, 178], [196, 72, 44], [42, 120, 214],
        [237, 161, 0], [116, 87, 201], [27, 175, 154], [232, 123, 164], [61, 154, 75], [20, 70, 60],
    ],
    np.uint8,
)  # fmt: skip
NEUTRAL = 5  # the first colour that does not look like a material
UNKNOWN_COLOUR = np.array([40, 40, 40], np.uint8)

Pixels = NDArray[np.uint8]  # (h, w, 3)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A held-out sample: what the index says, what went into the model, what came out."""

    row: Row
    shard: Shard
    inputs: Mapping[str, NDArray[Any]]
    output: Mapping[str, Any]


def evenly(count: int, most: int) -> list[int]:
    """Up to `most` of `count` places, evenly spaced: nobody picked the good ones."""
    return [round(place) for place in np.linspace(0, count - 1, min(count, most)).tolist()]


def answers(result: Result, field: str, most: int) -> list[Answer]:
    """Evenly spaced held-out samples that have a prediction called `field`, joined by key."""
    table = result.predictions
    if field not in table.column_names:
        return []
    there = table[field].is_valid().to_pylist()
    places = {key: i for i, key in enumerate(table["key"].to_pylist()) if there[i]}
    dataset = result.datasets[-1]
    found = [(shard, row) for shard, row in dataset if row.key in places]
    shown = []
    for i in evenly(len(found), most):
        shard, row = found[i]
        try:
            sample = load_sample(dataset, shard, row, rng=None, options=dict(result.study.train.data))
        except (BadSample, Corrupt):  # readable when it was predicted; the page goes on without it
            continue
        inputs = {name: np.asarray(value) for name, value in sample.items() if name != "key"}
        output = table.slice(places[row.key], 1).to_pylist()[0]
        shown.append(Answer(row=row, shard=shard, inputs=inputs, output=output))
    return shown


def preview(dataset: Dataset, shard: Shard, row: Row) -> str:
    """Data URI of a sample's own preview, or "" and never an error when it cannot be shown."""
    modality = modalities.get(dataset.manifest.modality)
    try:
        return compact(modality.preview(modality.look(dataset.files(shard, row)))["png"])
    except (BadSample, Corrupt):
        return ""


def compact(png: bytes) -> str:
    """Data URI of a PNG, made smaller if it is large: a strip keeps its height, a square its side."""
    image = Image.open(BytesIO(png))
    limit = PREVIEW_SIDE if image.width <= 2 * image.height else 3 * PREVIEW_SIDE
    if max(image.size) > limit:
        image.thumbnail((limit, limit), Image.Resampling.LANCZOS)
        image.save(out := BytesIO(), "PNG")
        png = out.getvalue()
    if len(png) < JPEG_FROM or image.mode not in ("RGB", "L"):
        return "data:image/png;base64," + base64.b64encode(png).decode()
    image.save(out := BytesIO(), "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


def uri(pixels: NDArray[np.uint8]) -> str:
    """Data URI of (h, w, 3) as a PNG, pixel by pixel."""
    Image.fromarray(np.ascontiguousarray(pixels)).save(out := BytesIO(), "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def painted(answer: Answer) -> tuple[Pixels, Pixels, Pixels, float]:
    """A photograph: as it is, as the model saw it, as it was painted in; and the error of what was hidden."""
    true, made = answer.inputs["image"], np.asarray(answer.output["reconstruction"], np.float32)
    hidden = (np.abs(made - true) > SAME).any(axis=0)
    seen = _photograph(true)
    seen[hidden] = HIDDEN
    return _photograph(true), seen, _photograph(made), _hidden_error(made - true, hidden)


def _photograph(normalised: NDArray[np.floating[Any]]) -> Pixels:
    """(3, h, w), ImageNet's mean and deviation taken off -> (h, w, 3)."""
    values = normalised.transpose(1, 2, 0) * np.array(STD) + np.array(MEAN)
    return eight_bit(values)


def eight_bit(values: NDArray[np.floating[Any]]) -> Pixels:
    """0..1 -> 0..255, clipped."""
    out: Pixels = np.rint(values.clip(0, 1) * 255).astype(np.uint8)
    return out


def _hidden_error(difference: NDArray[np.floating[Any]], hidden: NDArray[np.bool_]) -> float:
    """Mean square over the hidden places of (c, ...) values; NaN when nothing was hidden."""
    return float(np.square(difference[:, hidden]).mean()) if hidden.any() else math.nan


def clouds(answer: Answer, features: Sequence[str]) -> tuple[Pixels, Pixels, Pixels, float]:
    """A cloud from two sides: true colours, what the model saw, colours given back; and the error."""
    true, made = answer.inputs["features"], np.asarray(answer.output["reconstruction"], np.float32)
    hidden = (np.abs(made - true) > SAME).any(axis=1)
    starts = dict(
        zip(features, np.cumsum([0, *(FEATURES[name] for name in features)]).tolist(), strict=False)
    )
    rgb = starts.get("rgb")
    if rgb is not None and np.ptp(true[:, rgb : rgb + 3]) > 0:
        shades = [values[:, rgb : rgb + 3] for values in (true, made)]
    else:  # a scan without colours: the feature that varies most, in grey
        column = int(true.std(axis=0).argmax())
        low, high = float(true[:, column].min()), float(true[:, column].max())
        shades = [np.repeat((v[:, [column]] - low) / max(high - low, 1e-9), 3, 1) for v in (true, made)]
    colours = [eight_bit(values) for values in shades]
    seen = np.where(hidden[:, None], np.uint8(HIDDEN // 2), colours[0])
    views = [_two_views(answer.inputs["points"], c) for c in (colours[0], seen, colours[1])]
    return views[0], views[1], views[2], _hidden_error((made - true).T, hidden)


def labelled(answer: Answer) -> tuple[Pixels, Pixels]:
    """A cloud from two sides, coloured by the class of each point: the true one, and the one given."""
    points, true, said = answer.inputs["points"], answer.inputs["segmentation"], answer.output["segmentation"]
    return _two_views(points, material_map(true)), _two_views(points, material_map(np.asarray(said)))


def _two_views(points: NDArray[np.floating[Any]], colours: Pixels) -> Pixels:
    return np.concatenate([_view(points, colours, azimuth) for azimuth in AZIMUTHS_DEG], axis=1)


def _view(points: NDArray[np.floating[Any]], colours: Pixels, azimuth_deg: float) -> Pixels:
    """Parallel projection of points of the unit ball, z up, seen from the south turned by `azimuth_deg`."""
    turn, rise = math.radians(azimuth_deg), math.radians(ELEVATION_DEG)
    x = points[:, 0] * math.cos(turn) + points[:, 1] * math.sin(turn)
    away = points[:, 1] * math.cos(turn) - points[:, 0] * math.sin(turn)
    up = away * math.sin(rise) + points[:, 2] * math.cos(rise)
    near = points[:, 2] * math.sin(rise) - away * math.cos(rise)
    scale = (VIEW_SIDE / 2 - 6) / max(float(np.hypot(x, up).max()), 1e-9)
    canvas = np.full((VIEW_SIDE, VIEW_SIDE, 3), PANEL, np.uint8)
    columns = np.rint(VIEW_SIDE / 2 + x * scale).astype(int)
    rows = np.rint(VIEW_SIDE / 2 - up * scale).astype(int)
    radius = 3 if len(points) <= 1500 else 2
    dots = [(dy, dx) for dy in range(-radius, radius + 1) for dx in range(-radius, radius + 1)]
    for i in np.argsort(near, kind="stable"):  # far to near
        for dy, dx in dots:
            if dy * dy + dx * dx <= radius * radius + 1:
                canvas[rows[i] + dy, columns[i] + dx] = colours[i]
    return canvas


def composites(shown: Sequence[Answer]) -> list[Pixels]:
    """Red, green and blue bands of each cube, stretched alike so that they can be compared."""
    views = []
    for answer in shown:
        cube = answer.inputs["cube"].transpose(1, 2, 0)
        views.append(cube[:, :, colour_bands({"cube": cube, "wavelengths": answer.inputs["wavelengths"]})])
    if not views:
        return []
    low, high = np.percentile(np.concatenate([v.reshape(-1, 3) for v in views]), (1, 99), axis=0)
    return [eight_bit((view - low) / np.maximum(high - low, 1e-9)) for view in views]


def material_map(numbers: NDArray[np.int64], first: int = 0) -> Pixels:
    """(h, w) class numbers -> colours, those of MAP_COLOURS from `first` on; -1 is nearly black."""
    colours = MAP_COLOURS[(numbers + first) % len(MAP_COLOURS)]
    return np.where(numbers[..., None] < 0, UNKNOWN_COLOUR, colours)


def colour_of(number: int, first: int = 0) -> str:
    return "#" + bytes(MAP_COLOURS[(number + first) % len(MAP_COLOURS)]).hex()


def angles_deg(true: NDArray[np.floating[Any]], said: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Between directions (t, 3) of any length, exact for small angles too."""
    across = np.linalg.norm(np.cross(true, said), axis=-1)
    return np.asarray(np.rad2deg(np.arctan2(across, (true * said).sum(axis=-1))), np.float64)
