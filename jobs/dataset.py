"""Commands that look at a dataset: ls, cat, stats, check."""

import html
import json
import sys
from pathlib import Path
from typing import Any

from pipelines.shards.card import data_card
from pipelines.shards.dataset import Dataset

BAD = 1  # check found problems


def ls(dataset: str, *, as_json: bool = False, limit: int | None = None) -> int:
    """Print a line a sample."""
    for i, (shard, row) in enumerate(Dataset.open(dataset)):
        if limit is not None and i >= limit:
            break
        sizes = {ext: member.size for ext, member in row.files.items()}
        if as_json:
            record = {
                "key": row.key,
                "files": sizes,
                "shard": shard.key,
                "source": row.source,
                "split": shard.split,
                "label": row.label,
                "meta": row.meta,
            }
            print(json.dumps(record, ensure_ascii=False))
        else:
            files = " ".join(f"{ext}:{size}" for ext, size in sizes.items())
            print(f"{row.key}\t{row.label or '-'}\t{shard.split}\t{files}")
    return 0


def cat(dataset: str, key: str, *, member: str | None = None, output: Path | None = None) -> int:
    """Write a sample's files into the folder `output`, or one of them to `output` or standard output."""
    data = Dataset.open(dataset)
    shard, row = data.find(key)
    if member is None and output is None:
        for ext, place in row.files.items():
            where = f"{shard.key}@{place.offset}"
            print(f"{row.key}.{ext}\t{place.size:,} bytes\tcrc32c {place.crc32c:08x}\t{where}")
        return 0
    if member is not None:
        if member not in row.files:
            raise LookupError(f"{key} has no member {member!r}; it has {sorted(row.files)}")
        content = data.read(shard, row.files[member])
        if output is None:
            sys.stdout.buffer.write(content)
        else:
            output.write_bytes(content)
        return 0
    assert output is not None
    output.mkdir(parents=True, exist_ok=True)
    for ext, place in row.files.items():
        path = output / f"{row.key}.{ext}".replace("/", "_").lstrip(".")  # a stored name is never a path
        path.write_bytes(data.read(shard, place))
        print(path)
    return 0


def check(dataset: str, *, as_json: bool = False, sample: float = 1.0, seed: int | None = None) -> int:
    """Verify every digest, or those of a share of the shards. Exit code 1 when something is wrong."""
    from pipelines.shards.check import check as checked

    report = checked(dataset, share=sample, seed=seed)
    if as_json:
        print(json.dumps(report))
    else:
        for problem in report["problems"]:
            print(f"problem: {problem}", file=sys.stderr)
        verdict = "ok" if report["ok"] else f"{len(report['problems'])} problems"
        books = " ".join(f"{name} {count}" for name, count in report["books"].items())
        drawn = f" ({report['read']} of them read, --seed {report['seed']})" if sample < 1 else ""
        print(
            f"{dataset}: {verdict}; {report['samples']} samples, {report['shards']} shards{drawn}, "
            f"{report['bytes']:,} bytes, digest {report['manifest'][:16]}; {books}"
        )
    return 0 if report["ok"] else BAD


def stats(dataset: str, *, form: str = "text", output: Path | None = None) -> int:
    """The data card, as text, JSON or HTML."""
    card = data_card(Dataset.open(dataset))
    text = {"text": _text, "json": lambda c: json.dumps(c, indent=1), "html": card_html}[form](card)
    if output is None:
        print(text)
    else:
        output.write_text(text)
    return 0


def _text(card: dict[str, Any]) -> str:
    books = " + ".join(f"{name} {card['books'][name]}" for name in list(card["books"])[1:])
    lines = [
        f"{card['modality']} dataset, snapshot {card['snapshot']}, digest {card['digest'][:16]}",
        f"{card['samples']} samples in {card['shards']} shards, {card['bytes']:,} bytes",
        f"inputs {card['books']['inputs']} = {books}",
        "splits   " + ", ".join(f"{name} {count}" for name, count in card["splits"].items()),
    ]
    if card["classes"]:
        lines += ["classes", *(f"  {name:<28}{count:>8}" for name, count in card["classes"].items())]
    for title in ("files", "fields", "quality"):
        lines.append(title)
        for name, facts in card[title].items():
            lines.append(f"  {name:<28}{_line(facts)}")
    if card["dropped"]:
        lines.append("left out")
        lines += [f"  {row['status']:<12}{row['count']:>6}  {row['reason']}" for row in card["dropped"]]
    return "\n".join(lines)


def _line(facts: dict[str, Any]) -> str:
    if "mean" in facts:
        bars = "".join(" ▁▂▃▄▅▆▇█"[-(-8 * n // max(facts["counts"]))] for n in facts.get("counts", []))
        return f"{facts['min']:>12.6g} .. {facts['mean']:>10.5g} .. {facts['max']:<12.6g} {bars}"
    return ", ".join(f"{value} ({count})" for value, count in list(facts.get("values", {}).items())[:6])


STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#1b2733}
h1{font-size:1.5rem} h2{font-size:1.1rem;margin-top:2rem}
table{border-collapse:collapse;width:100%} 
td,th{padding:.25rem .6rem;border-bottom:1px solid #e3e8ee;text-align:left}
td.n{text-align:right;font-variant-numeric:tabular-nums} svg{vertical-align:middle}
"""


def card_html(card: dict[str, Any]) -> str:
    """One page without scripts or outside resources."""
    e = html.escape
    rows = [f"<tr><td>{e(name)}</td><td class=n>{count}</td></tr>" for name, count in card["classes"].items()]
    quality = [
        f"<tr><td>{e(name)}</td><td class=n>{q.get('min', 0):.4g}</td><td class=n>{q.get('mean', 0):.4g}</td>"
        f"<td class=n>{q.get('max', 0):.4g}</td><td>{_bars(q['counts'])}</td></tr>"
        for name, q in card["quality"].items()
    ]
    fields = [f"<tr><td>{e(n)}</td><td>{e(_line(facts))}</td></tr>" for n, facts in card["fields"].items()]
    books = [f"<tr><td>{e(k)}</td><td class=n>{v}</td></tr>" for k, v in card["books"].items()]
    dropped = [
        f"<tr><td>{e(r['status'])}</td><td>{e(r['reason'])}</td><td class=n>{r['count']}</td></tr>"
        for r in card["dropped"]
    ]
    parts = [
        ("Books", books),
        ("Classes", rows),
        ("Fields", fields),
        ("Quality", quality),
        ("Left out", dropped),
    ]
    body = "".join(f"<h2>{title}</h2><table>{''.join(found)}</table>" for title, found in parts if found)
    return (
        f"<!doctype html><meta charset=utf-8><title>{e(card['modality'])} dataset</title>"
        f"<style>{STYLE}</style>"
        f"<h1>{e(card['modality'])} dataset, snapshot {card['snapshot']}</h1>"
        f"<p>{card['samples']} samples in {card['shards']} shards, {card['bytes']:,} bytes. "
        f"Digest <code>{card['digest']}</code></p>{body}"
    )


def _bars(counts: list[int]) -> str:
    top = max(counts, default=0) or 1
    bars = "".join(
        f'<rect x="{8 * i}" y="{24 - 24 * n / top:.1f}" width="7" height="{24 * n / top:.1f}"/>'
        for i, n in enumerate(counts)
    )
    return f'<svg width="{8 * len(counts)}" height="24" role="img" fill="#3572b0">{bars}</svg>'
