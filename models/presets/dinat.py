"""Dilated Neighborhood Attention Transformer.

Paper: Hassani and Shi, 2022, arXiv:2209.15001. Sizes: table 2; dilations for 224 pixels: its code.
Neighbourhoods near and far in turn, the far ones as wide as each stage's raster allows.
"""

from collections.abc import Sequence
from math import isqrt

from torch import Tensor

from models.imports import Rule, Verb

PART = "backbone"


def near_and_far(dilations: Sequence[int]) -> tuple[tuple[dict[str, object], ...], ...]:
    """Mixers of the stages: dilation 1 and the one given, in turn."""
    return tuple(
        tuple({"name": "neighbourhood", "window": 7, "dilation": step} for step in sorted({1, far}))
        for far in dilations
    )


PRESETS = {
    "dinat_mini": {
        "base": "fna_mini",
        "doc": "DiNAT-Mini; parameters as printed.",
        "millions": 20.0,
        "mixers": near_and_far((8, 4, 2, 1)),
    },
    "dinat_tiny": {
        "base": "dinat_mini",
        "doc": "DiNAT-Tiny.",
        "millions": 27.9,
        "backbone.depths": (3, 4, 18, 5),
    },
    "dinat_small": {
        "base": "dinat_tiny",
        "doc": "DiNAT-Small.",
        "millions": 50.7,
        "backbone.dims": (96, 192, 384, 768),
        "backbone.drop_path": 0.3,
        "block.channel": {"name": "mlp", "ratio": 2.0},
    },
    "dinat_base": {
        "base": "dinat_small",
        "doc": "DiNAT-Base.",
        "millions": 89.8,
        "backbone.dims": (128, 256, 512, 1024),
        "backbone.drop_path": 0.5,
        "block.layer_scale": 1e-5,
    },
    "dinat_nano": {
        "base": "fna_nano",
        "doc": "Ours, for small images.",
        "backbone.depths": (2, 2, 1),
        "mixers": tuple(
            tuple(
                {"name": "neighbourhood", "window": 3, "dilation": step, "head_dim": 16} for step in (1, far)
            )
            for far in (4, 2, 1)
        ),
    },
}


def _to_rows(parts: Sequence[Tensor]) -> Tensor:
    """Biases (h, 2 k - 1, 2 k - 1) of key - query to ours: a row for each offset query - key."""
    return parts[0].flip(1, 2).flatten(1).T.contiguous()


def _from_rows(ours: Tensor, _: int) -> list[Tensor]:
    return [ours.T.unflatten(1, (isqrt(len(ours)), -1)).flip(1, 2)]


BLOCK, HF = "backbone.stages.{i}.{j}", "dinat.encoder.levels.{i}.layers.{j}"

IMPORTS = {
    "transformers": (
        Rule("stem.layers.{i}.conv.{p}", "dinat.embeddings.patch_embeddings.projection.{i}.{p}"),
        Rule("stem.layers.1.norm.{p}", "dinat.embeddings.norm.{p}"),
        Rule(f"{BLOCK}.norm1.{{p}}", f"{HF}.layernorm_before.{{p}}"),
        Rule(f"{BLOCK}.norm2.{{p}}", f"{HF}.layernorm_after.{{p}}"),
        Rule(
            f"{BLOCK}.mixer.qkv.{{p}}",
            tuple(f"{HF}.attention.self.{x}.{{p}}" for x in ("query", "key", "value")),
        ),
        Rule(f"{BLOCK}.mixer.out.{{p}}", f"{HF}.attention.output.dense.{{p}}"),
        Rule(f"{BLOCK}.mixer.bias", f"{HF}.attention.self.rpb", Verb(_to_rows, _from_rows)),
        Rule(f"{BLOCK}.channel.up.{{p}}", f"{HF}.intermediate.dense.{{p}}"),
        Rule(f"{BLOCK}.channel.down.{{p}}", f"{HF}.output.dense.{{p}}"),
        Rule("backbone.merges.{i}.conv.conv.{p}", "dinat.encoder.levels.{i}.downsample.reduction.{p}"),
        Rule("backbone.merges.{i}.conv.norm.{p}", "dinat.encoder.levels.{i}.downsample.norm.{p}"),
        Rule("backbone.norm.{p}", "dinat.layernorm.{p}"),
        Rule("head.out.{p}", "classifier.{p}"),
    ),
}
