"""report.html: what the demo read, learned and predicted, on one page that needs nothing else."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.config.schema import IngestJob
from jobs.demo import pictures
from jobs.demo.pictures import Answer
from jobs.demo.results import Result
from modalities.hyperspectral.materials import NAMES
from pipelines.shards.dataset import Dataset

SAMPLES, ANSWERS, CLIPS, LISTED = 6, 6, 8, 8  # pictures and rows of each kind; the rest is counted
JUDGED = 500  # held-out samples that go into a table of rights and wrongs
LONGEST = 40  # letters of a key or source; the whole is in the tooltip
TOLD = (
    "width", "height", "num_frames", "fps", "duration_s", "num_points", "bands", "codec", "mode", "material",
    "format",
)  # fmt: skip
PARTS = {"ingest": "files to shards", "train": "shards to model", "infer": "model to predictions"}


STYLE = """
:root{color-scheme:light dark;--page:#f7f8fa;--card:#fff;--ink:#18202a;--soft:#5a6675;--rule:#dfe4ea;
  --line:#2a78d6;--raw:#a9c9ef;--chance:#b4541a;--good:#14763a;--bad:#b3261e;--true:#c98500;--code:#eef1f5}
@media(prefers-color-scheme:dark){:root{--page:#12161b;--card:#1a2027;--ink:#e8edf3;--soft:#9aa7b6;
  --rule:#2e3742;--line:#5ea2f0;--raw:#2f5580;--chance:#f0955a;--good:#57c785;--bad:#ff8a80;
  --true:#f2b632;--code:#242c35}} *{box-sizing:border-box}
body{font:15px/1.5 system-ui,sans-serif;margin:0;background:var(--page);color:var(--ink)}
header,section{max-width:1160px;margin:1.5rem auto;padding:1.5rem 2rem;background:var(--card);
  border-radius:12px;border:1px solid var(--rule)} h1{font-size:1.9rem;line-height:1.2;margin:.2rem 0 .6rem}
h2{font-size:1.4rem;margin:.2rem 0 .5rem}
h3{font-size:1.05rem;margin:2rem 0 .6rem;padding-top:1rem;border-top:1px solid var(--rule)}
.lead{max-width:48rem;color:var(--soft);margin:.3rem 0 1rem} .note,small{color:var(--soft);font-size:.87rem}
a{color:var(--line)}
code{font:.82rem ui-monospace,monospace;background:var(--code);border-radius:4px;padding:.1em .35em;
  overflow-wrap:anywhere}
.tiles,.steps,.curves,.cards{display:grid;gap:1rem;
  grid-template-columns:repeat(auto-fit,minmax(200px,1fr));margin:1rem 0}
.tiles div,.steps div{border:1px solid var(--rule);border-radius:8px;padding:.7rem .9rem}
.tiles b{display:block;font-size:1.6rem;line-height:1.3} .tiles span{color:var(--soft);font-size:.87rem}
.steps b{text-transform:capitalize} .steps code{display:block;margin-top:.35rem}
.curves,.cards{grid-template-columns:repeat(auto-fit,minmax(min(100%,410px),1fr))}
.verdict{font-size:.85rem;font-weight:600;white-space:nowrap;vertical-align:middle} .good{color:var(--good)}
.bad{color:var(--bad)} .wide{overflow-x:auto} table{border-collapse:collapse}
td,th{padding:.35rem .5rem;text-align:left;vertical-align:top;font-weight:400}
thead th,.confusion th{color:var(--soft);font-size:.87rem}
.wide>table:not(.grid):not(.confusion){width:100%}
.wide>table:not(.grid) td,thead th{border-bottom:1px solid var(--rule)}
td{font-variant-numeric:tabular-nums} td.n,th.n{text-align:right} .summary td,thead th{white-space:nowrap}
.wide{font-size:.92rem;margin-bottom:.8rem}
caption{text-align:left;white-space:nowrap;color:var(--soft);font-size:.87rem;padding:.8rem .6rem .3rem}
.confusion td{min-width:4.5rem} .hit{background:rgb(42 120 214/calc(var(--a)*.55))}
.miss{background:rgb(214 80 42/calc(var(--a)*.55))} figure{margin:0;min-width:0}
figcaption{font-size:.87rem;margin-top:.35rem} img{max-width:100%}
.samples{display:grid;gap:1rem;grid-template-columns:repeat(auto-fill,minmax(160px,1fr));
  margin:.6rem 0 1.4rem}
.samples img,.blank{width:100%;height:150px;object-fit:contain;object-position:left bottom;display:block}
.blank{display:grid;place-items:center;border:1px dashed var(--rule);color:var(--soft);
  padding:0 1rem;margin:0}
.strips{display:grid;gap:1rem;grid-template-columns:repeat(auto-fill,minmax(min(100%,480px),1fr))}
.strips img{display:block;height:auto;max-height:100px;border-radius:4px}
td code{white-space:nowrap} .grid img{max-width:none}
@media(max-width:600px){header,section{padding:1rem}}
figcaption code,.grid code,.steps code{max-width:100%;display:inline-block;white-space:nowrap;overflow:hidden;
  text-overflow:ellipsis;vertical-align:bottom}
.grid img,.lights img{image-rendering:pixelated;width:136px;border-radius:4px;display:block}
.grid.large img{width:320px}
.grid th{color:var(--soft);font-size:.87rem;vertical-align:middle;padding-left:0}
.grid td{padding:.25rem;max-width:150px;font-size:.87rem} .grid.large td{max-width:none}
.lights img,.lights .disc{width:104px;height:104px;display:block}
.lights td{padding:.2rem;text-align:center;font-size:.87rem}
.legend{display:flex;flex-wrap:wrap;gap:.4rem 1.2rem;font-size:.87rem}
.legend i{display:inline-block;width:.9em;height:.9em;border-radius:3px;margin-right:.4em;
  vertical-align:-.1em;border:1px solid var(--rule)} i.true{background:var(--true)}
i.said{background:var(--line)} svg{display:block;width:100%}
svg text{fill:var(--soft);font:12px system-ui,sans-serif} text.value{fill:var(--ink);font-weight:600}
text.note{fill:var(--chance);font-size:12px} .grid-line{stroke:var(--rule)}
polyline{fill:none;stroke-linejoin:round;stroke-linecap:round}
polyline.line{stroke:var(--line);stroke-width:2} polyline.raw{stroke:var(--raw);stroke-width:1}
circle.mark{fill:var(--line);stroke:var(--card);stroke-width:1.5}
line.chance{stroke:var(--chance);stroke-width:1.5;stroke-dasharray:6 4}
.rim{fill:none;stroke:var(--rule);stroke-width:1.5} line.true{stroke:var(--true);stroke-width:3}
line.said{stroke:var(--line);stroke-width:3} circle.true{fill:var(--true)} circle.said{fill:var(--line)}
line.behind{stroke-dasharray:4 4} circle.true.behind{fill:var(--card);stroke:var(--true);stroke-width:2.5}
circle.said.behind{fill:var(--card);stroke:var(--line);stroke-width:2.5}
"""
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
PAGE = (
    f'<!doctype html><html lang=en><meta charset=utf-8><meta http-equiv="Content-Security-Policy" '
    f'content="{POLICY}"><meta name=viewport content="width=device-width">'
    f"<title>rayloom: the whole path</title>"
    f"<style>{STYLE}</style><body>"
)


def write_report(path: Path, results: Sequence[Result], facts: Mapping[str, float]) -> Path:
    """One page about finished studies; `facts` has "seconds" and "peak_gib" of the whole. Returns `path`."""
    body = _head(results, facts) + "".join(_study(result) for result in results)
    path.write_text(f"{PAGE}{body}</body></html>\n", encoding="utf-8")
    return path


def _head(results: Sequence[Result], facts: Mapping[str, float]) -> str:
    ahead = sum(result.learned for result in results)
    tiles = [
        (f"{ahead} of {len(results)}", "kinds of data learned: better than chance on held-out samples"),
        (f"{facts['seconds']:.0f} s", "from raw files to predictions, all of them"),
        (f"{facts['peak_gib']:.1f} GiB", "peak memory of all processes together"),
        (f"{sum(b.written for r in results for b in r.books):,}", "samples written to shards"),
    ]
    shown = "".join(f"<div><b>{escape(value)}</b><span>{name}</span></div>" for value, name in tiles)
    names = ("Data", "Files", "Samples", "Kept out", "Training loss", "Held-out metric", "Score", "Chance")
    head = "".join(f"<th>{name}</th>" for name in (*names, "Verdict", "Seconds"))
    rows = ""
    for result in results:
        title, *cells, seconds = result.row()
        link = f'<a href="#{_anchor(result)}">{escape(title)}</a>'
        middle = "".join(f"<td>{escape(cell.replace('->', '→'))}</td>" for cell in cells)
        end = f"<td>{_verdict(result, short=True)}</td><td>{escape(seconds)}</td>"
        rows += f"<tr><td>{link}</td>{middle}{end}</tr>"
    return (
        "<header><h1>The whole path, on five kinds of data</h1><p class=lead>Raw files were read, checked "
        "and written to shards; a small model was trained on the shards of each kind; the model predicted "
        "samples it had not seen. Everything below was measured in this run.</p>"
        f'<div class=tiles>{shown}</div><div class=wide><table class="summary"><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div><p class=note>Kept out: quarantined, duplicate or filtered. "
        "Seconds: ingest + train + infer. Chance: what an answer that does not look at the sample scores."
        "</p></header>"
    )


def _anchor(result: Result) -> str:
    return escape(result.study.modality)


def _verdict(result: Result, *, short: bool = False) -> str:
    kind, mark, word = ("good", "✓", "better") if result.learned else ("bad", "✗", "not better")
    return f'<span class="verdict {kind}">{mark} {word}{"" if short else " than chance"}</span>'


def _study(result: Result) -> str:
    study = result.study
    model = study.train.model.name
    parts = [
        f"<section id={_anchor(result)}><h2>{escape(study.title)} {_verdict(result)}</h2>"
        f"<p class=lead>{escape(study.says)}</p>",
        _steps(result),
        "<h3>What was read</h3>",
        _books(result),
        _left_out(result),
        *(_samples(job, dataset) for job, dataset in zip(study.ingests, result.datasets, strict=True)),
        f"<h3>What was learned</h3><p>Model <code>{escape(model)}</code>, task {escape(study.train.task)}, "
        f"{study.train.steps} steps of {study.train.batch_size} samples: {escape(result.sentence())}.</p>",
        _curves(result),
        "<h3>What it says about samples it never saw</h3>",
        _predictions(result),
        "</section>",
    ]
    return "".join(parts)


def _steps(result: Result) -> str:
    """Seconds of each job, and where its output lies."""
    study = result.study
    places = {"ingest": study.ingests[-1].output, "train": study.train.output, "infer": study.infer.output}
    cells = ""
    for name, seconds in result.seconds.items():
        place = places.get(name, "")
        what = f"<b>{escape(name)}</b> {escape(PARTS.get(name, ''))}, {seconds:.0f} s"
        cells += f"<div>{what}{_code(place, 36)}</div>"
    return f"<div class=steps>{cells}</div>"


def _code(text: str, most: int = LONGEST) -> str:
    """A name as code; of one longer than `most` the end, where names differ, and the whole as a tooltip."""
    short = text if len(text) <= most else "…" + text[1 - most :]
    return f'<code title="{escape(text)}">{escape(short)}</code>'


def _books(result: Result) -> str:
    rows = ""
    for job, books, dataset in zip(result.study.ingests, result.books, result.datasets, strict=True):
        splits: Counter[str] = Counter()
        for shard in dataset.manifest.shards:
            splits[shard.split] += shard.samples
        numbers = (books.inputs, books.written, books.quarantined, books.duplicates, books.filtered)
        cells = "".join(f"<td class=n>{number:,}</td>" for number in numbers)
        closed = "✓" if books.closed else "✗ the books do not close"
        held = ", ".join(f"{name} {count:,}" for name, count in sorted(splits.items()))
        size = f"{len(dataset.manifest.shards)}: {dataset.manifest.size / 2**20:.1f} MiB"
        done = [f"{stage.kind} {getattr(stage, 'how', '')}".strip() for stage in job.stages]
        stages = escape(", ".join(done)) or "none"
        rows += (
            f"<tr><td>{_code(_origin(job), 32)}</td><td>{stages}</td>{cells}<td>{closed}</td>"
            f"<td>{escape(held)}</td><td>{size}</td></tr>"
        )
    names = "<th>Source<th>Stages<th class=n>Inputs<th class=n>= written<th class=n>+ quarantined"
    names += "<th class=n>+ duplicates<th class=n>+ filtered<th>Closed<th>Splits<th>Shards"
    return f"<div class=wide><table><thead><tr>{names}</tr></thead><tbody>{rows}</tbody></table></div>"


def _origin(job: IngestJob) -> str:
    made = job.source.synth
    return f"{made} samples made from seeds" if made is not None else str(job.source.uri)


def _left_out(result: Result) -> str:
    dropped = [row for dataset in result.datasets for row in dataset.dropped()]
    if not dropped:
        return "<p class=note>Nothing was left out.</p>"
    rows = "".join(
        f"<tr><td>{_code(row['name'] + (' ' + row['suffix'] if row['suffix'] else ''))}</td>"
        f"<td>{escape(row['status'])}</td><td>{escape(row['reason'])}</td>"
        f"<td>{escape((row['detail'] or '')[-300:])}</td></tr>"
        for row in dropped[:LISTED]
    )
    counts = Counter((row["status"], row["reason"]) for row in dropped)
    told = ", ".join(f"{count} {status}: {reason}" for (status, reason), count in counts.most_common())
    rest = f"; the first {LISTED} are listed" if len(dropped) > LISTED else ""
    head = "<tr><th>Left out<th>As<th>Reason<th>Detail</tr>"
    return (
        f"<div class=wide><table><thead>{head}</thead><tbody>{rows}</tbody></table></div>"
        f"<p class=note>In all {escape(told)}{rest}.</p>"
    )


def _samples(job: IngestJob, dataset: Dataset) -> str:
    rows = list(dataset)
    shape, most = ("strips", LONGEST) if job.modality in ("video", "lighting") else ("samples", 19)
    cards = ""
    for place in pictures.evenly(len(rows), SAMPLES):
        shard, row = rows[place]
        told = [f"{name} {_brief(row.meta[name])}" for name in TOLD if row.meta.get(name) is not None][:4]
        label = "" if row.label is None else f"<br>label <b>{escape(row.label)}</b>"
        image = pictures.preview(dataset, shard, row)
        shown = f'<img src="{image}" alt="">' if image else "<p class=blank>too large to show whole</p>"
        cards += (
            f"<figure>{shown}<figcaption>{_code(row.key, most)}{label}<br>"
            f"<small>{escape(', '.join(told))}, split {escape(shard.split)}</small></figcaption></figure>"
        )
    count = f"{len(rows):,} sample{'' if len(rows) == 1 else 's'}"
    return f"<p>From {_code(_origin(job))}: {count}.</p><div class={shape}>{cards}</div>"


def _brief(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _curves(result: Result) -> str:
    study = result.study
    last = study.train.steps
    loss = pictures.curve(result.losses, name="Training loss", last=last)
    held_out = result.held_out(study.metric)
    unit = ", degrees" if study.metric.endswith("_deg") else ""
    metric = pictures.curve(
        held_out, name=f"Held-out {study.metric}{unit}, {study.better} is better",
        last=last, chance=result.chance, marked=True,
    )  # fmt: skip
    return f"<div class=curves>{loss}{metric}</div>"


def _predictions(result: Result) -> str:
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
        return f"<p>{table.num_rows} predictions lie in {_code(study.infer.output)}.</p>"
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
    top = "".join(f"<td>{_code(head, 36 if size else 15)}</td>" for head in heads)
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
            f"with {chances[said]:.0%}{truth}<br>{_code(answer.row.key)}</figcaption></figure>"
        )
    numbers = result.datasets[-1].class_numbers
    truths = {row.key: numbers[row.label] for _, row in result.datasets[-1] if row.label is not None}
    said_all = result.predictions.select(["key", "probabilities"]).to_pylist()
    judged = [row for row in said_all if row["probabilities"] is not None and row["key"] in truths]
    pairs = [(truths[row["key"]], int(np.argmax(row["probabilities"]))) for row in judged]
    return f"<div class=strips>{cards}</div>{pictures.confusion(np.array(pairs), classes, 'clips')}"


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
    return f"<p class=legend>{legend}</p>{grid}{pictures.confusion(judged, names, 'pixels')}"


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
            f'<td><img src="{pictures.uri(frame)}" alt="">{pictures.light_disc(t, s)}{angle:.0f}°</td>'
            for frame, t, s, angle in zip(frames, true, said, angles, strict=True)
        )
        label = "" if answer.row.label is None else f", {escape(answer.row.label)}"
        cards += (
            f"<figure><table class=lights><tr>{cells}</tr></table><figcaption>{_code(answer.row.key)}{label}"
            f", {angles.mean():.0f}° off on average</figcaption></figure>"
        )
    legend = (
        '<p class=legend><span><i class="true"></i>true light</span><span><i class="said"></i>predicted'
        "</span><span>x to the right, y up; the rim is the horizon; dashed: from behind</span></p>"
    )
    return f"{legend}<div class=cards>{cards}</div>"
