"""Pictures of samples and of what a model said about them, as data URIs and inline SVG."""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
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


def light_disc(true: NDArray[np.floating[Any]], said: NDArray[np.floating[Any]]) -> str:
    """SVG: both directions as seen by the camera, x right and y up; dashed when from behind the object."""
    arrows = ""
    for name, light in (("true", true), ("said", said)):
        x, y, z = (light / max(float(np.linalg.norm(light)), 1e-9)).tolist()
        behind = " behind" if z < 0 else ""
        arrows += (
            f'<line class="{name}{behind}" x1="50" y1="50" x2="{50 + 42 * x:.1f}" y2="{50 - 42 * y:.1f}"/>'
            f'<circle class="{name}{behind}" cx="{50 + 42 * x:.1f}" cy="{50 - 42 * y:.1f}" r="5"/>'
        )
    return (
        '<svg class="disc" viewBox="0 0 100 100" role="img" aria-label="light direction">'
        '<circle class="rim" cx="50" cy="50" r="42"/><circle class="rim" cx="50" cy="50" r="21"/>'
        f"{arrows}</svg>"
    )


def curve(
    points: NDArray[np.float64], *, name: str, last: int, chance: float | None = None, marked: bool = False
) -> str:
    """SVG of (n, 2) step and value, from zero up; with markers and values, or with a running mean."""
    points = np.asarray(points, float).reshape(-1, 2)
    points = points[np.isfinite(points).all(axis=1)]
    values = [*points[:, 1], *([chance] if chance is not None and math.isfinite(chance) else [])]
    marks = ticks(max([*values, 1e-9]) * 1.04)
    top = max(marks[-1], max([*values, 1e-9]) * 1.04)
    width, height, left, upper = 460.0, 180.0, 52.0, 22.0

    def x(step: float) -> float:
        return left + width * step / max(last, 1)

    def y(value: float) -> float:
        place: float = upper + height * (1 - max(float(value), 0.0) / top)
        return place

    def line(rows: NDArray[np.float64], kind: str) -> str:
        places = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in rows)
        return f'<polyline class="{kind}" points="{places}"/>'

    parts = [
        f'<line class=grid-line x1="{left}" x2="{left + width}" y1="{y(v):.1f}" y2="{y(v):.1f}"/>'
        f'<text class=tick x="{left - 8}" y="{y(v) + 4:.1f}" text-anchor="end">{v:g}</text>'
        for v in marks
    ]
    parts += [
        f'<text class=tick x="{x(v):.1f}" y="{upper + height + 18}" text-anchor="middle">{v:g}</text>'
        for v in ticks(last)
    ]
    if chance is not None and math.isfinite(chance):
        parts.append(
            f'<line class=chance x1="{left}" x2="{left + width}" y1="{y(chance):.1f}" y2="{y(chance):.1f}"/>'
            f'<text class=note x="{left + 4}" y="{y(chance) - 6:.1f}">chance {chance:.3g}</text>'
        )
    if marked:
        parts.append(line(points, "line"))
        for step, value in points:
            place = f'cx="{x(step):.1f}" cy="{y(value):.1f}"'
            parts.append(f"<circle class=mark {place} r=4><title>step {step:g}: {value:.4g}</title></circle>")
        for step, value in points[-1:]:
            below = 18 if chance is not None and value < chance else -10
            place = f'x="{x(step):.1f}" y="{y(value) + below:.1f}"'
            parts.append(f'<text class=value {place} text-anchor="end">{value:.3g}</text>')
    else:
        parts += [line(points, "raw"), line(smooth(points), "line")]
    return (
        f'<figure><figcaption>{escape(name)}</figcaption><svg class=curve viewBox="0 0 524 242" role="img" '
        f'aria-label="{escape(name)}">{"".join(parts)}'
        f'<text class=tick x="{left + width}" y="{upper + height + 34}" text-anchor="end">step</text>'
        "</svg></figure>"
    )


def ticks(top: float, most: int = 5) -> list[float]:
    """0 and up to `most` round numbers up to `top`."""
    power = 10.0 ** math.floor(math.log10(max(top, 1e-12) / most))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if top / (power * m) <= most)
    return [round(i * step, 12) for i in range(int(top / step + 1e-9) + 1)]


def smooth(points: NDArray[np.float64], share: float = 0.05) -> NDArray[np.float64]:
    """Running mean of (n, 2) over `share` of the points to either side."""
    reach = max(1, round(len(points) * share))
    means = [points[max(0, i - reach) : i + reach + 1, 1].mean() for i in range(len(points))]
    return np.column_stack([points[:, 0], means]) if len(points) else points


def confusion(pairs: NDArray[np.int64], classes: Sequence[str], what: str) -> str:
    """Table of (n, 2) true and predicted class numbers: a row a true class, with the share found."""
    counts = np.zeros((len(classes), len(classes)), np.int64)
    if len(pairs):
        np.add.at(counts, (pairs[:, 0], pairs[:, 1]), 1)
    rows = ""
    for i, name in enumerate(classes):
        total = int(counts[i].sum())
        cells = "".join(
            f'<td class="n {"hit" if i == j else "miss"}" style="--a:{n / max(total, 1):.2f}">{n:,}</td>'
            for j, n in enumerate(counts[i].tolist())
        )
        found = f"{counts[i, i] / total:.0%}" if total else "-"
        rows += f"<tr><th>{escape(name)}</th>{cells}<td class=n>{found}</td></tr>"
    head = "".join(f"<th class=n>{escape(name)}</th>" for name in classes)
    return (
        f"<div class=wide><table class=confusion><caption>All held-out {escape(what)}: a row is the truth, a "
        f"column what was said</caption><tr><th></th>{head}<th class=n>found</th></tr>{rows}</table></div>"
    )
