"""CSWin Transformer: A General Vision Transformer Backbone with Cross-Shaped Windows.

Paper: Dong et al., 2021, arXiv:2107.00652. Sizes: table 1 and the authors' code.
Stripes of 1, 2, 7 and the whole raster in the last stage, as in the authors' code. The scale is 1 / sqrt(e);
a note there says that earlier weights had another. Departs from it: nothing.
"""

from models.imports import Rule

PART = "backbone"

STRIPES = tuple(({"name": "cross_stripes", "stripe": stripe},) for stripe in (1, 2, 7, None))

PRESETS = {
    "cswin_tiny": {
        "doc": "CSWin-T; parameters counted in the authors' code (the paper prints 23 M).",
        "millions": 22.319,
        "modality": "image",
        "stem": "conv",
        "stem.layers": ({"kernel": 7, "stride": 4, "norm": "layer"},),
        "backbone": "pyramid",
        "backbone.dims": (64, 128, 256, 512),
        "backbone.depths": (1, 2, 21, 1),
        "backbone.merge": {"name": "conv", "after": "layer"},
        "backbone.drop_path": 0.2,
        "mixers": STRIPES,
        "head": "classification",
        "in_chans": 3,
        "num_outputs": 1000,
        "init_std": 0.02,
    },
    "cswin_small": {
        "base": "cswin_tiny",
        "doc": "CSWin-S.",
        "millions": 34.626,
        "backbone.depths": (2, 4, 32, 2),
        "backbone.drop_path": 0.4,
    },
    "cswin_base": {
        "base": "cswin_small",
        "doc": "CSWin-B.",
        "millions": 77.388,
        "backbone.dims": (96, 192, 384, 768),
        "backbone.drop_path": 0.6,
        "mixers": tuple(({**stage[0], "head_dim": 24},) for stage in STRIPES),
    },
    "cswin_nano": {
        "base": "cswin_tiny",
        "doc": "Ours, for images of 32-64 pixels.",
        "backbone.dims": (32, 64, 128),
        "backbone.depths": (1, 2, 2),
        "backbone.drop_path": 0.0,
        "mixers": tuple(({"name": "cross_stripes", "stripe": s, "head_dim": 16},) for s in (1, 2, None)),
        "num_outputs": 10,
    },
}


def stage(i: int) -> tuple[Rule, ...]:
    """The rules of one stage of the authors' code, which has two convolutions where it has two halves."""
    ours, theirs = f"backbone.stages.{i}.{{j}}", f"stage{i + 1}.{{j}}"
    halves = tuple(f"{theirs}.attns.{half}.get_v.{{p}}" for half in ((0, 1) if i < 3 else (0,)))
    return (
        Rule(f"{ours}.norm1.{{p}}", f"{theirs}.norm1.{{p}}"),
        Rule(f"{ours}.norm2.{{p}}", f"{theirs}.norm2.{{p}}"),
        Rule(f"{ours}.mixer.qkv.{{p}}", f"{theirs}.qkv.{{p}}"),
        Rule(f"{ours}.mixer.out.{{p}}", f"{theirs}.proj.{{p}}"),
        Rule(f"{ours}.mixer.near.{{p}}", halves),
        Rule(f"{ours}.channel.up.{{p}}", f"{theirs}.mlp.fc1.{{p}}"),
        Rule(f"{ours}.channel.down.{{p}}", f"{theirs}.mlp.fc2.{{p}}"),
    )


IMPORTS = {
    "authors": (
        Rule("stem.layers.0.conv.{p}", "stage1_conv_embed.0.{p}"),
        Rule("stem.layers.0.norm.{p}", "stage1_conv_embed.2.{p}"),
        *(rule for i in range(4) for rule in stage(i)),
        *(
            rule
            for i in range(3)
            for rule in (
                Rule(f"backbone.merges.{i}.conv.conv.{{p}}", f"merge{i + 1}.conv.{{p}}"),
                Rule(f"backbone.merges.{i}.conv.norm.{{p}}", f"merge{i + 1}.norm.{{p}}"),
            )
        ),
        Rule("backbone.norm.{p}", "norm.{p}"),
        Rule("head.out.{p}", "head.{p}"),
    ),
}
