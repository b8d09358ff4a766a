"""report.html: what the demo read, learned and predicted, on one page that needs nothing else."""

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from jobs.config.schema import IngestJob
from jobs.demo import charts, pictures
from jobs.demo.page import LONGEST, PAGE, code
from jobs.demo.results import Result
from jobs.demo.views import predictions
from pipelines.shards.dataset import Dataset

SAMPLES, LISTED = 6, 8  # pictures and rows of each kind; the rest is counted
TOLD = (
    "width", "height", "num_frames", "fps", "duration_s", "num_points", "bands", "codec", "mode", "material",
    "format",
)  # fmt: skip
PARTS = {"ingest": "files to shards", "train": "shards to model", "infer": "model to predictions"}


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
        predictions(result),
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
        cells += f"<div>{what}{code(place, 36)}</div>"
    return f"<div class=steps>{cells}</div>"


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
            f"<tr><td>{code(_origin(job), 32)}</td><td>{stages}</td>{cells}<td>{closed}</td>"
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
        f"<tr><td>{code(row['name'] + (' ' + row['suffix'] if row['suffix'] else ''))}</td>"
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
            f"<figure>{shown}<figcaption>{code(row.key, most)}{label}<br>"
            f"<small>{escape(', '.join(told))}, split {escape(shard.split)}</small></figcaption></figure>"
        )
    count = f"{len(rows):,} sample{'' if len(rows) == 1 else 's'}"
    return f"<p>From {code(_origin(job))}: {count}.</p><div class={shape}>{cards}</div>"


def _brief(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _curves(result: Result) -> str:
    study = result.study
    last = study.train.steps
    loss = charts.curve(result.losses, name="Training loss", last=last)
    held_out = result.held_out(study.metric)
    unit = ", degrees" if study.metric.endswith("_deg") else ""
    metric = charts.curve(
        held_out, name=f"Held-out {study.metric}{unit}, {study.better} is better",
        last=last, chance=result.chance, marked=True,
    )  # fmt: skip
    return f"<div class=curves>{loss}{metric}</div>"
