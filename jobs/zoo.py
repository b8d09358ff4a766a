"""What models there are: published systems, their presets and parts, read from the code itself."""

import inspect
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

from models.backbones.base import Mixers
from models.build import create_model, each_mixer
from models.mixers.base import MIXERS, Traits
from models.presets.base import file_of, module_of, presets, resolve, systems
from models.registry import options_of, suggest

Row = dict[str, Any]


def models() -> list[Row]:
    """One row a preset: name, system, part, modality, parameters, mixers."""
    return [model_row(name) for name in sorted(presets())]


def list_text(rows: list[Row]) -> str:
    """Rows of `models` as a table."""
    lines = [f"{'model':<24}{'system':<20}{'part':<15}{'data':<15}{'M':>8}  mixers"]
    for row in rows:
        lines.append(
            f"{row['name']:<24}{row['system'] or '-':<20}{row['part'] or '-':<15}{row['modality']:<15}"
            f"{row['parameters'] / 1e6:>8.2f}  {', '.join(row['mixers'])}"
        )
    return "\n".join(lines)


def model_row(name: str) -> Row:
    """Its parameters are counted on the meta device."""
    import torch

    family, spec = file_of(name).rpartition(".")[2], resolve(name)
    with torch.device("meta"):
        size = sum(parameter.numel() for parameter in create_model(name).parameters())
    return {
        "name": name,
        "system": family if family in systems() else None,
        "part": getattr(module_of(family), "PART", None),
        "modality": spec["modality"],
        "parameters": size,
        "mixers": mixer_names(spec["mixers"]),
    }


def mixer_names(mixers: Mixers) -> list[str]:
    """Each once, in the order of the blocks."""
    return list(dict.fromkeys(m["name"] for m in each_mixer(mixers) if m["name"] is not None))


def show(name: str) -> Row:
    """A system, a model or a mixer, whichever has this name; LookupError with near names if none has."""
    if name in systems():
        return show_system(name)
    if name in presets():
        return model_row(name) | resolve(name)
    if name in MIXERS.names():
        return show_mixer(name)
    known = [*systems(), *presets(), *MIXERS.names()]
    raise LookupError(f"no system, model or mixer {name!r}; did you mean one of {suggest(name, known)}?")


def show_system(short: str) -> Row:
    """Title, paper, part, its presets and the mixers they use."""
    module = module_of(short)
    rows = [model_row(name) for name in module.PRESETS]
    mixers = list(dict.fromkeys(mixer for row in rows for mixer in row["mixers"]))
    return {
        "system": short,
        "title": title(module.__doc__ or ""),
        "paper": labelled(module.__doc__ or "", "Paper"),
        "part": module.PART,
        "modality": sorted({row["modality"] for row in rows}),
        "models": {row["name"]: row["parameters"] for row in rows},
        "mixers": {mixer: labelled(MIXERS[mixer].__doc__ or "", "Cost") for mixer in mixers},
        "weights from": sorted(getattr(module, "IMPORTS", {})),
        "proof": f"tests/models/presets/test_{short}.py",
    }


def show_mixer(name: str) -> Row:
    """Formula, cost, paper, traits and options."""
    mixer = MIXERS[name]
    doc = inspect.getdoc(mixer) or ""
    return {
        "mixer": name,
        "formula": title(doc),
        **{label.lower(): labelled(doc, label) for label in ("Shape", "Cost", "Paper")},
        "traits": claims(mixer.traits),
        "options": options_of(mixer),
    }


def claims(traits: Traits) -> list[str]:
    """The traits that differ from those of a mixer that claims nothing."""
    plain = Traits()
    said = []
    for field in fields(traits):
        value = getattr(traits, field.name)
        if value != getattr(plain, field.name):
            said.append(field.name if value is True else f"{field.name}={value}")
    return said


def title(doc: str) -> str:
    """The first sentence or line of a docstring."""
    return doc.strip().split("\n\n")[0].split("\n")[0].strip().rstrip(".")


def labelled(doc: str, label: str) -> str:
    """What a docstring says after "Label:", up to its full stop, next label or empty line."""
    end = r"(?=\n\s*\n|\n\s*[A-Z][\w ]*:|\Z)"
    found = re.search(rf"^\s*{label}:\s*(.+?){end}", doc, re.MULTILINE | re.DOTALL)
    text = " ".join(found[1].split()) if found else ""
    return re.split(r"(?<=\.) (?=[A-Z])", text)[0].rstrip(".")


def document() -> str:
    """docs/zoo.md: tables of systems and mixers."""
    lines = [
        "# Models",
        "",
        "Written by `rayloom zoo docs`; a test compares it with the code. A system is a file in",
        "`models/presets`, its proof the test of the same name. `rayloom zoo show NAME` says more,",
        "`rayloom zoo bench` measures.",
        "",
        f"## {len(systems())} published systems",
        "",
        "| system | title | part | data | models (M parameters) | mixers | weights from | paper |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for short in systems():
        row = show_system(short)
        sizes = ", ".join(f"{name} {count / 1e6:.2f}" for name, count in row["models"].items())
        cells = [f"`{short}`", row["title"], row["part"], ", ".join(row["modality"]), sizes]
        cells += [", ".join(f"`{mixer}`" for mixer in row["mixers"]), ", ".join(row["weights from"])]
        lines.append(line([*cells, row["paper"]]))
    lines += ["", f"## {len(MIXERS.names())} token mixers", ""]
    lines += ["| mixer | formula | cost | claims | paper |", "| --- | --- | --- | --- | --- |"]
    for name in MIXERS.names():
        row = show_mixer(name)
        lines.append(line([f"`{name}`", row["formula"], row["cost"], ", ".join(row["traits"]), row["paper"]]))
    return "\n".join([*lines, ""])


def line(cells: list[str]) -> str:
    """A row of a table; a bar inside a cell would end it."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def write_document(path: Path) -> None:
    """Write docs/zoo.md anew."""
    path.write_text(document(), encoding="utf-8")
