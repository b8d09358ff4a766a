"""Weights under the names of other libraries: declarative rules, read in both directions."""

import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from models.presets.base import file_of
from models.registry import suggest

State = Mapping[str, Tensor]
HOLE = re.compile(r"\{(?:(\d+)\*)?(\w+)(?:\+(\d+))?\}")  # {i}, {i+1}, {3*j+2}


@dataclass(frozen=True)
class Verb:
    """How a tensor changes on its way in, and back. `parts` tensors of theirs make one of ours."""

    read: Callable[[Sequence[Tensor]], Tensor]
    write: Callable[[Tensor, int], Sequence[Tensor]]


SAME = Verb(lambda parts: parts[0], lambda ours, _: [ours])
CAT = Verb(
    lambda parts: torch.cat(list(parts)), lambda ours, count: ours.chunk(count)
)  # q, k, v -> qkv, or several tables


def conv(*kernel: int) -> Verb:
    """Theirs is a convolution, ours a linear map over its kernel: (o, i, *kernel) -> (o, i * prod)."""

    def write(ours: Tensor, _: int) -> Sequence[Tensor]:
        return [ours.unflatten(1, (-1, *kernel)) if ours.ndim == 2 else ours]  # biases stay

    return Verb(lambda parts: parts[0].flatten(1) if parts[0].ndim > 1 else parts[0], write)


def shaped(theirs: Sequence[int], ours: Sequence[int]) -> Verb:
    """The same numbers in another shape; -1 once in each."""
    return Verb(
        lambda parts: parts[0].reshape(tuple(ours)), lambda tensor, _: [tensor.reshape(tuple(theirs))]
    )


@dataclass(frozen=True)
class Rule:
    """Our name <- theirs. Holes in braces stand for one piece between dots, or a number: "stages.{i+1}.{p}".

    Several names of theirs make one tensor of ours, by CAT unless `verb` says otherwise; `ours=None` says
    that theirs holds nothing that is learned.
    """

    ours: str | None
    theirs: str | tuple[str, ...]
    verb: Verb | None = None
    names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", (self.theirs,) if isinstance(self.theirs, str) else self.theirs)

    def change(self) -> Verb:
        return self.verb or (SAME if len(self.names) == 1 else CAT)


def timm_block(ours: str, theirs: str, *, mixer: str = "mixer") -> tuple[Rule, ...]:
    """Norms, attention and MLP of a block under timm's names, which many authors' code shares."""
    pairs = {
        "norm1": "norm1", "norm2": "norm2", f"{mixer}.qkv": "attn.qkv", f"{mixer}.out": "attn.proj",
        "channel.up": "mlp.fc1", "channel.down": "mlp.fc2",
    }  # fmt: skip
    return tuple(Rule(f"{ours}.{a}.{{p}}", f"{theirs}.{b}.{{p}}") for a, b in pairs.items())


def timm_vit(patch: int) -> tuple[Rule, ...]:
    """A plain ViT under timm's names, with or without its class token."""
    return (
        Rule("stem.project.{p}", "patch_embed.proj.{p}", conv(patch, patch)),
        Rule("backbone.cls", "cls_token"),
        Rule("backbone.position.table", "pos_embed"),
        *timm_block("backbone.blocks.{i}", "blocks.{i}", mixer="mixer.attention"),
        Rule("backbone.norm.{p}", "norm.{p}"),
        Rule("head.out.{p}", "head.{p}"),
    )


def import_state(model: str, state: State, *, source: str) -> dict[str, Tensor]:
    """Weights named as in `source` ("timm", "transformers", ...) -> the state of preset `model`.

    A name that no rule covers, or that lacks its partners, is a ValueError.
    """
    ours: dict[str, Tensor] = {}
    unknown: list[str] = []
    for name in state:
        for rule in rules_for(model, source):
            holes = next((h for n in rule.names if (h := match(n, name)) is not None), None)
            if holes is None:
                continue
            if rule.ours is not None and (new := fill(rule.ours, holes)) not in ours:
                partners = [fill(n, holes) for n in rule.names]
                if missing := [n for n in partners if n not in state]:
                    raise ValueError(f"{new} needs {partners} of {source}, the weights lack {missing}")
                ours[new] = rule.change().read([state[n] for n in partners])
            break
        else:
            unknown.append(name)
    if unknown:
        raise ValueError(f"no rule of {model!r} from {source} reads {unknown[:5]} ({len(unknown)} names)")
    return ours


def export_state(model: str, state: State, *, source: str) -> dict[str, Tensor]:
    """The other direction: the state of preset `model` under the names of `source`."""
    theirs: dict[str, Tensor] = {}
    for name, tensor in state.items():
        for rule in rules_for(model, source):
            holes = None if rule.ours is None else match(rule.ours, name)
            if holes is not None:
                parts = rule.change().write(tensor, len(rule.names))
                theirs.update(zip((fill(n, holes) for n in rule.names), parts, strict=True))
                break
        else:
            raise ValueError(f"no rule of {model!r} to {source} writes {name!r}")
    return theirs


def rules_for(model: str, source: str) -> Sequence[Rule]:
    """The rules beside the preset: IMPORTS of its file."""
    tables = getattr(importlib.import_module(file_of(model)), "IMPORTS", {})
    if source not in tables:
        raise LookupError(f"no rules from {source!r} for {model!r}; there are {suggest(source, tables)}")
    return tables[source]


def match(pattern: str, name: str) -> dict[str, str | int] | None:
    """What the holes of a pattern stand for in a name; None if it does not fit."""
    regex, holes, end = "", [], 0
    for hole in HOLE.finditer(pattern):
        counted = hole[1] is not None or hole[3] is not None
        regex += re.escape(pattern[end : hole.start()]) + (r"(\d+)" if counted else r"([^.]+)")
        holes.append((hole[2], int(hole[1] or 1), int(hole[3] or 0), counted))
        end = hole.end()
    found = re.fullmatch(regex + re.escape(pattern[end:]), name)
    values: dict[str, str | int] = {}
    for (key, times, plus, counted), text in zip(holes, found.groups() if found else (), strict=False):
        number, rest = divmod(int(text) - plus, times) if counted else (0, 0)
        if rest or number < 0:
            return None
        value: str | int = number if counted else int(text) if text.isdigit() else text
        if values.setdefault(key, value) != value:
            return None
    return values if found else None


def fill(pattern: str, holes: Mapping[str, str | int]) -> str:
    """The name that a pattern makes of its holes."""

    def value(hole: re.Match[str]) -> str:
        if hole[1] is None and hole[3] is None:
            return str(holes[hole[2]])
        return str(int(holes[hole[2]]) * int(hole[1] or 1) + int(hole[3] or 0))

    return HOLE.sub(value, pattern)
