"""What a model said about samples it never saw, as HTML: a view for each task and kind of data."""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.demo import charts, pictures
from jobs.demo.page import code
from jobs.demo.pictures import Answer
from jobs.demo.results import Result
from modalities.hyperspectral.materials import NAMES

ANSWERS, CLIPS = 6, 8  # of each kind; the rest is counted
JUDGED = 500  # held-out samples that go into a table of rights and wrongs


def predictions(result: Result) -> str:
    """HTML: some answers as pictures, and all of them in a table of rights and wrongs where there is one."""
    study = result.study
    table = result.predictions
    views: dict[tuple[str, str], tuple[str, Callable[[Result, list[Answer]], str]]] = {
        ("masked", "image"): ("reconstruction", _photographs),
        ("masked", "pointcloud"): ("reconstruction", _clouds),
        ("classification", "video"): ("probabilities", _clips),
        ("segmentation", "hyperspectral"): ("segmentation", _materials),
        ("segmentation", "pointcloud"): ("segmentation", _points),
        ("regression", "lighting"): ("value", _lights),
    }
    if (study.train.task, study.modality) not in views:
        return f"<p>{table.num_rows} predictions lie in {code(study.infer.output)}.</p>"
    field, view = views[study.train.task, study.modality]
    most = {"_clouds": 3, "_points": 3, "_clips": CLIPS}.get(view.__name__, ANSWERS)
    shown = pictures.answers(result, field, most)
    lost = table.num_rows - (len(table) - table[field].null_count if field in table.column_names else 0)
    failed = f"<p class=note>{lost} of {table.num_rows} samples could not be predicted.</p>" if lost else ""
    if not shown:
        return failed or "<p class=note>There are no predictions.</p>"
    count = f"{table.num_rows} prediction{'' if table.num_rows == 1 else 's'}"
    told = f"{count}; the samples shown are evenly spaced, not picked."
    return f"<p class=note>{told}</p>{view(result, shown)}{failed}"


def _grid(
    heads: Sequence[str], rows: Mapping[str, Sequence[str]], feet: Sequence[str], size: str = ""
) -> str:
    """Samples as columns, what is shown of them as rows; `rows` maps a name to data URIs."""
    cells = ""
    for name, uris in rows.items():
        pixels = "".join(f'<td><img src="{uri}" alt=""></td>' for uri in uris)
        cells += f"<tr><th>{escape(name)}</th>{pixels}</tr>"
    top = "".join(f"<td>{code(head, 36 if size else 15)}</td>" for head in heads)
    end = "".join(f"<td>{escape(foot)}</td>" for foot in feet)
    return (
        f'<div class=wide><table class="grid {size}"><tr><th></th>{top}</tr>{cells}<tr><th></th>{end}</tr>'
        "</table></div>"
    )


def _photographs(result: Result, shown: list[Answer]) -> str:
    return _reconstructions([pictures.painted(answer) for answer in shown], shown)


def _clouds(result: Result, shown: list[Answer]) -> str:
    features = result.study.train.data.get("features", ("height", "intensity", "rgb"))
    return _reconstructions([pictures.clouds(answer, features) for answer in shown], shown, "large")


def _points(result: Result, shown: list[Answer]) -> str:
    views = [pictures.labelled(answer) for answer in shown]
    rows = {
        "the classes": [pictures.uri(true) for true, _ in views],
        "what it says": [pictures.uri(said) for _, said in views],
    }
    feet = [
        f"{np.mean(np.asarray(a.output['segmentation']) == a.inputs['segmentation']):.0%} right"
        for a in shown
    ]
    return _grid([answer.row.key for answer in shown], rows, feet, "large")


def _reconstructions(views: Sequence[Any], shown: list[Answer], size: str = "") -> str:
    rows = {
        name: [pictures.uri(view[i]) for view in views]
        for i, name in enumerate(("as it is", "what the model saw", "what it gave back"))
    }
    feet = [f"error {view[3]:.3g}" for view in views]
    return _grid([answer.row.key for answer in shown], rows, feet, size)


def _clips(result: Result, shown: list[Answer]) -> str:
    classes = list(result.datasets[-1].manifest.classes)
    cards = ""
    for answer in shown:
        chances = answer.output["probabilities"]
        said, true = int(np.argmax(chances)), answer.row.label or "without a label"
        right = classes[said] == true
        mark = '<b class="good">✓</b>' if right else '<b class="bad">✗</b>'
        truth = "" if right else f", is <b>{escape(true)}</b>"
        strip = pictures.preview(result.datasets[-1], answer.shard, answer.row)
        cards += (
            f'<figure><img src="{strip}" alt=""><figcaption>{mark} says <b>{escape(classes[said])}</b> '
            f"with {chances[said]:.0%}{truth}<br>{code(answer.row.key)}</figcaption></figure>"
        )
    numbers = result.datasets[-1].class_numbers
    truths = {row.key: numbers[row.label] for _, row in result.datasets[-1] if row.label is not None}
    said_all = result.predictions.select(["key", "probabilities"]).to_pylist()
    judged = [row for row in said_all if row["probabilities"] is not None and row["key"] in truths]
    pairs = [(truths[row["key"]], int(np.argmax(row["probabilities"]))) for row in judged]
    return f"<div class=strips>{cards}</div>{charts.confusion(np.array(pairs), classes, 'clips')}"


def _materials(result: Result, shown: list[Answer]) -> str:
    judged = _pixels(pictures.answers(result, "segmentation", JUDGED))
    count = int(judged.max(initial=-1)) + 1
    known = result.study.ingests[-1].source.synth is not None and count <= len(NAMES)
    names = list(NAMES) if known else [f"class {i}" for i in range(count)]
    first = 0 if known else pictures.NEUTRAL
    pixels = [_pixels([answer]) for answer in shown]
    feet = [f"{(p[:, 0] == p[:, 1]).mean():.0%} right" if len(p) else "no truth" for p in pixels]
    maps = [(a.inputs["segmentation"], np.asarray(a.output["segmentation"])) for a in shown]
    rows = {
        "colours": [pictures.uri(view) for view in pictures.composites(shown)],
        "true materials": [pictures.uri(pictures.material_map(true, first)) for true, _ in maps],
        "predicted": [pictures.uri(pictures.material_map(said, first)) for _, said in maps],
    }
    legend = "".join(
        f'<span><i style="background:{pictures.colour_of(i, first)}"></i>{escape(name)}</span>'
        for i, name in enumerate(names)
    )
    grid = _grid([answer.row.key for answer in shown], rows, feet)
    return f"<p class=legend>{legend}</p>{grid}{charts.confusion(judged, names, 'pixels')}"


def _pixels(shown: list[Answer]) -> NDArray[np.int64]:
    """(n, 2) true and predicted class of every pixel whose truth is known."""
    pairs = [np.stack([a.inputs["segmentation"], a.output["segmentation"]], -1) for a in shown]
    joined = np.concatenate([pair.reshape(-1, 2) for pair in pairs])
    return np.asarray(joined[joined[:, 0] >= 0], np.int64)


def _lights(result: Result, shown: list[Answer]) -> str:
    cards = ""
    for answer in shown:
        true, said = answer.inputs["light"], np.asarray(answer.output["value"], float)
        angles = pictures.angles_deg(true, said)
        frames = pictures.eight_bit(answer.inputs["video"].transpose(1, 2, 3, 0))
        cells = "".join(
            f'<td><img src="{pictures.uri(frame)}" alt="">{charts.light_disc(t, s)}{angle:.0f}°</td>'
            for frame, t, s, angle in zip(frames, true, said, angles, strict=True)
        )
        label = "" if answer.row.label is None else f", {escape(answer.row.label)}"
        cards += (
            f"<figure><table class=lights><tr>{cells}</tr></table><figcaption>{code(answer.row.key)}{label}"
            f", {angles.mean():.0f}° off on average</figcaption></figure>"
        )
    legend = (
        '<p class=legend><span><i class="true"></i>true light</span><span><i class="said"></i>predicted'
        "</span><span>x to the right, y up; the rim is the horizon; dashed: from behind</span></p>"
    )
    return f"{legend}<div class=cards>{cards}</div>"
