"""Curves, light directions and tables of rights and wrongs, as inline SVG and HTML."""

import math
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray


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
