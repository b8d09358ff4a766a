"""DaViT: Dual Attention Vision Transformers.

Paper: Ding et al., 2022, arXiv:2204.03645. Sizes: sec. 3.4 and the authors' code.
Windows and channel groups take turns; a depthwise convolution stands before each mixer and each MLP, as in
the authors' code. Windows have no bias, and see padding. Departs from it: a raster smaller than a window is
not padded to one.
"""

from models.imports import Rule, timm_block

PART = "token_mixer"

CONV = {"name": "conditional"}

PRESETS = {
    "davit_tiny": {
        "doc": "DaViT-T; parameters counted in the authors' code (the paper prints 28.3 M).",
        "millions": 28.360,
        "modality": "image",
        "stem": "conv",
        "stem.layers": ({"kernel": 7, "stride": 4, "pad": 3, "norm": "layer"},),
        "backbone": "pyramid",
        "backbone.dims": (96, 192, 384, 768),
        "backbone.depths": (2, 2, 6, 2),
        "backbone.merge": {"name": "conv", "kernel": 2, "before": "layer"},
        "backbone.norm": None,
        "backbone.drop_path": 0.1,
        "block.position": CONV,
        "block.channel_position": CONV,
        "mixers": (
            {"name": "window", "window": 7, "bias": False, "hide_padding": False},
            {"name": "channel_group", "group": 32},
        ),
        "head": "classification",
        "head.norm": "layer",
        "in_chans": 3,
        "num_outputs": 1000,
        "init_std": 0.02,
    },
    "davit_small": {
        "base": "davit_tiny",
        "doc": "DaViT-S.",
        "millions": 49.746,
        "backbone.depths": (2, 2, 18, 2),
        "backbone.drop_path": 0.2,
    },
    "davit_base": {
        "base": "davit_small",
        "doc": "DaViT-B.",
        "millions": 87.954,
        "backbone.dims": (128, 256, 512, 1024),
        "backbone.drop_path": 0.4,
    },
    "davit_nano": {
        "base": "davit_tiny",
        "doc": "Ours, for images of 32-64 pixels.",
        "backbone.dims": (48, 96, 192),
        "backbone.depths": (2, 2, 2),
        "backbone.drop_path": 0.0,
        "mixers": (
            {"name": "window", "window": 6, "bias": False, "head_dim": 24},
            {"name": "channel_group", "group": 24},
        ),
        "num_outputs": 10,
    },
}


def block(ours: str, theirs: str) -> tuple[Rule, ...]:
    """The rules of one block of either kind."""
    return (
        Rule(f"{ours}.position.conv.conv.{{p}}", f"{theirs}.cpe1.proj.{{p}}"),
        Rule(f"{ours}.channel_position.conv.conv.{{p}}", f"{theirs}.cpe2.proj.{{p}}"),
        *timm_block(ours, theirs),
    )


IMPORTS = {
    "timm": (
        Rule("stem.layers.0.conv.{p}", "stem.conv.{p}"),
        Rule("stem.layers.0.norm.{p}", "stem.norm.{p}"),
        *block("backbone.stages.{i}.{2*j}", "stages.{i}.blocks.{j}.0"),
        *block("backbone.stages.{i}.{2*j+1}", "stages.{i}.blocks.{j}.1"),
        Rule("backbone.merges.{i}.before.{p}", "stages.{i+1}.downsample.norm.{p}"),
        Rule("backbone.merges.{i}.conv.conv.{p}", "stages.{i+1}.downsample.conv.{p}"),
        Rule("head.norm.{p}", "head.norm.{p}"),
        Rule("head.out.{p}", "head.fc.{p}"),
    ),
}
