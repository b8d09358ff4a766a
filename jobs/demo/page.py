"""The frame of report.html: its style, what it may load, and how names stand in it."""

from html import escape

LONGEST = 40  # letters of a key or source; the whole is in the tooltip

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


def code(text: str, most: int = LONGEST) -> str:
    """A name as code; of one longer than `most` the end, where names differ, and the whole as a tooltip."""
    short = text if len(text) <= most else "…" + text[1 - most :]
    return f'<code title="{escape(text)}">{escape(short)}</code>'
