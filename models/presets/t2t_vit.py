"""Tokens-to-Token ViT: Training Vision Transformers from Scratch on ImageNet.

Paper: Yuan et al., 2021, arXiv:2101.11986. Sizes: table 1 and the authors' code.
Three soft splits with attention between them, then a deep and narrow ViT with fixed positions. Scores are
divided by the root of a head's channels, as in the paper and the authors' code; the weights they released
were trained with the root of all channels: the rules "released" carry those over.
Departs from it: what the class token's own position adds, which is constant, is part of the token.
"""

import torch
from torch import Tensor

from models.imports import Rule, Verb, timm_block
from models.positions.sinusoid import sinusoids

PART = "tokenizer"

PRESETS = {
    "t2t_vit_14": {
        "doc": "T2T-ViT-14 with performers; learned parameters counted in the authors' code (paper: 21.5 M).",
        "millions": 21.466,
        "modality": "image",
        "stem": "tokens_to_token",
        "backbone": "isotropic",
        "backbone.dim": 384,
        "backbone.depth": 14,
        "backbone.position": {"name": "sinusoid", "first": 1},
        "backbone.class_token": "first",
        "backbone.drop_path": 0.1,
        "block.channel": {"name": "mlp", "ratio": 3.0},
        "mixers": ({"name": "attention", "head_dim": 64, "qkv_bias": False},),
        "head": "classification",
        "head.source": "class",
        "in_chans": 3,
        "num_outputs": 1000,
        "init_std": 0.02,
    },
    "t2t_vit_t_14": {
        "base": "t2t_vit_14",
        "doc": "T2T-ViT_t-14, with transformers.",
        "millions": 21.466,
        "stem.attention": "transformer",
    },
    "t2t_vit_19": {
        "base": "t2t_vit_14",
        "doc": "T2T-ViT-19 with performers.",
        "millions": 39.085,
        "backbone.dim": 448,
        "backbone.depth": 19,
    },
    "t2t_vit_nano": {
        "base": "t2t_vit_14",
        "doc": "Ours, for images of 64 pixels or more.",
        "stem.width": 32,
        "backbone.dim": 96,
        "backbone.depth": 4,
        "backbone.drop_path": 0.0,
        "mixers": ({"name": "attention", "head_dim": 32, "qkv_bias": False},),
        "num_outputs": 10,
    },
}


def origin(dim: int) -> Tensor:
    """What the position of the class token adds there."""
    return sinusoids(torch.zeros(1), dim)


def turned(kqv: Tensor) -> Tensor:
    """Keys, queries, values -> queries, keys, values; the same back."""
    first, second, third = kqv.chunk(3)
    return torch.cat([second, first, third])


def milder(qkv: Tensor, power: float) -> Tensor:
    """Queries of heads of 64 channels, scaled to (64 / d)^power of what they are."""
    q, rest = qkv.split([qkv.shape[1], 2 * qkv.shape[1]])
    return torch.cat([q * (64 / qkv.shape[1]) ** power, rest])


CLASS = Verb(lambda parts: parts[0] + origin(parts[0].shape[-1]), lambda t, _: [t - origin(t.shape[-1])])
TURNED = Verb(lambda parts: turned(parts[0]), lambda t, _: [turned(t)])
MILDER = Verb(lambda parts: milder(parts[0], 0.5), lambda t, _: [milder(t, -0.5)])


def narrowing(k: int) -> tuple[Rule, ...]:
    """The rules of one layer between two splits, of either kind."""
    ours, theirs = f"stem.layers.{k}", f"tokens_to_token.attention{k + 1}"
    return (
        Rule(f"{ours}.norm1.{{p}}", f"{theirs}.norm1.{{p}}"),
        Rule(f"{ours}.norm2.{{p}}", f"{theirs}.norm2.{{p}}"),
        Rule(f"{ours}.qkv.{{p}}", f"{theirs}.kqv.{{p}}", TURNED),
        Rule(f"{ours}.out.{{p}}", f"{theirs}.proj.{{p}}"),
        Rule(f"{ours}.features", f"{theirs}.w"),
        Rule(f"{ours}.up.{{p}}", f"{theirs}.mlp.0.{{p}}"),
        Rule(f"{ours}.down.{{p}}", f"{theirs}.mlp.2.{{p}}"),
    )


def transformer(k: int) -> tuple[Rule, ...]:
    """Of transformers only; none of the names there is a performer's."""
    ours, theirs = f"stem.layers.{k}", f"tokens_to_token.attention{k + 1}"
    return (
        Rule(f"{ours}.qkv.{{p}}", f"{theirs}.attn.qkv.{{p}}"),
        Rule(f"{ours}.out.{{p}}", f"{theirs}.attn.proj.{{p}}"),
        Rule(f"{ours}.up.{{p}}", f"{theirs}.mlp.fc1.{{p}}"),
        Rule(f"{ours}.down.{{p}}", f"{theirs}.mlp.fc2.{{p}}"),
    )


def rules(queries: Verb | None) -> tuple[Rule, ...]:
    """All rules, with what happens to the queries of the backbone."""
    block, theirs = "backbone.blocks.{i}", "blocks.{i}"
    return (
        *narrowing(0),
        *narrowing(1),
        Rule("stem.project.{p}", "tokens_to_token.project.{p}"),
        Rule("backbone.cls", "cls_token", CLASS),
        Rule(None, "pos_embed"),
        Rule(f"{block}.mixer.attention.qkv.{{p}}", f"{theirs}.attn.qkv.{{p}}", queries),
        *timm_block(block, theirs, mixer="mixer.attention"),
        Rule("backbone.norm.{p}", "norm.{p}"),
        Rule("head.out.{p}", "head.{p}"),
    )


def openmmlab(ours: str, theirs: str, *, mixer: str = "", channel: str = "") -> tuple[Rule, ...]:
    """Of one layer there: norms, attention and MLP, which have parts of their own in blocks of ours."""
    pairs = {
        "norm1": "ln1", "norm2": "ln2", f"{mixer}qkv": "attn.qkv", f"{mixer}out": "attn.proj",
        f"{channel}up": "ffn.layers.0.0", f"{channel}down": "ffn.layers.1",
    }  # fmt: skip
    return tuple(Rule(f"{ours}.{a}.{{p}}", f"{theirs}.{b}.{{p}}") for a, b in pairs.items())


# performers are the default: their names are written; transformers' are read as well
IMPORTS = {
    "authors": (*rules(None), *transformer(0), *transformer(1)),
    "released": (*rules(MILDER), *transformer(0), *transformer(1)),
    "mmpretrain": (  # transformers only
        *openmmlab("stem.layers.0", "backbone.tokens_to_token.attention1"),
        *openmmlab("stem.layers.1", "backbone.tokens_to_token.attention2"),
        Rule("stem.project.{p}", "backbone.tokens_to_token.project.{p}"),
        Rule("backbone.cls", "backbone.cls_token", CLASS),
        Rule(None, "backbone.pos_embed"),
        *openmmlab(
            "backbone.blocks.{i}", "backbone.encoder.{i}", mixer="mixer.attention.", channel="channel."
        ),
        Rule("backbone.norm.{p}", "backbone.norm.{p}"),
        Rule("head.out.{p}", "head.layers.head.{p}"),
    ),
}
