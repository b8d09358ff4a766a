"""HorNet: Efficient High-Order Spatial Interactions with Recursive Gated Convolutions.

Paper: Rao et al., 2022, arXiv:2207.14284. Sizes: table 1 and appendix: orders 2 to 5 from stage to
stage; "gf" has a learned spectrum in the last two.
"""

from models.imports import Rule, Verb, conv

PART = "token_mixer"

PRESETS = {
    "hornet_tiny": {
        "doc": "HorNet-T with filters of 7 x 7; parameters counted in the paper's code.",
        "millions": 22.410,
        "modality": "image",
        "stem": "conv",
        "stem.layers": ({"kernel": 4, "stride": 4, "norm": {"name": "layer", "eps": 1e-6}},),
        "backbone": "pyramid",
        "backbone.dims": (64, 128, 256, 512),
        "backbone.depths": (2, 3, 18, 2),
        "backbone.merge": {"name": "conv", "kernel": 2, "before": {"name": "layer", "eps": 1e-6}},
        "backbone.norm": None,
        "backbone.drop_path": 0.2,
        "block.norm": {"name": "layer", "eps": 1e-6},
        "block.layer_scale": 1e-6,
        "mixers": tuple(({"name": "gnconv", "order": order},) for order in (2, 3, 4, 5)),
        "head": "classification",
        "head.norm": {"name": "layer", "eps": 1e-6},
        "in_chans": 3,
        "num_outputs": 1000,
        "init_std": 0.02,
    },
    "hornet_tiny_gf": {
        "base": "hornet_tiny",
        "doc": "HorNet-T with learned spectra; counted likewise.",
        "millions": 22.992,
        "mixers": (
            ({"name": "gnconv", "order": 2},),
            ({"name": "gnconv", "order": 3},),
            ({"name": "gnconv", "order": 4, "spectrum": (14, 8)},),
            ({"name": "gnconv", "order": 5, "spectrum": (7, 4)},),
        ),
    },
    "hornet_small": {
        "base": "hornet_tiny",
        "doc": "HorNet-S; counted likewise.",
        "millions": 49.53,
        "backbone.dims": (96, 192, 384, 768),
        "backbone.drop_path": 0.4,
    },
    "hornet_nano": {
        "base": "hornet_tiny",
        "doc": "Ours, for small images.",
        "backbone.dims": (32, 64, 128),
        "backbone.depths": (1, 1, 1),
        "backbone.drop_path": 0.0,
        "block.layer_scale": None,
        "mixers": (
            ({"name": "gnconv", "order": 2},),
            ({"name": "gnconv", "order": 3},),
            ({"name": "gnconv", "order": 4, "spectrum": (4, 3)},),
        ),
        "num_outputs": 10,
    },
}

BLOCK = "backbone.stages.{i}.{j}"  # theirs as well
MIXING, GN = f"{BLOCK}.mixer", f"{BLOCK}.gnconv"
DOWN = "backbone.downsample_layers"

POINT = conv(1, 1)  # theirs are convolutions of 1 x 1
SPECTRUM = Verb(lambda parts: parts[0].movedim(-1, 0), lambda t, _: [t.movedim(0, -1)])  # real, imaginary

IMPORTS = {
    "mmpretrain": (
        Rule("stem.layers.0.conv.{p}", f"{DOWN}.0.0.{{p}}"),
        Rule("stem.layers.0.norm.{p}", f"{DOWN}.0.1.{{p}}"),
        Rule("backbone.merges.{i}.before.{p}", f"{DOWN}.{{i+1}}.0.{{p}}"),
        Rule("backbone.merges.{i}.conv.conv.{p}", f"{DOWN}.{{i+1}}.1.{{p}}"),
        Rule(f"{MIXING}.inner.{{p}}", f"{GN}.proj_in.{{p}}", POINT),
        Rule(f"{MIXING}.gates.{{k}}.{{p}}", f"{GN}.projs.{{k}}.{{p}}", POINT),
        Rule(f"{MIXING}.out.{{p}}", f"{GN}.proj_out.{{p}}", POINT),
        Rule(f"{MIXING}.filter.spectrum", f"{GN}.dwconv.complex_weight", SPECTRUM),
        Rule(f"{MIXING}.filter.conv.{{p}}", f"{GN}.dwconv.{{p}}"),
        Rule(f"{MIXING}.filter.local.conv.{{p}}", f"{GN}.dwconv.dw.{{p}}"),
        Rule(f"{MIXING}.filter.before.{{p}}", f"{GN}.dwconv.pre_norm.{{p}}"),
        Rule(f"{MIXING}.filter.after.{{p}}", f"{GN}.dwconv.post_norm.{{p}}"),
        Rule(f"{BLOCK}.norm1.{{p}}", f"{BLOCK}.norm1.{{p}}"),
        Rule(f"{BLOCK}.norm2.{{p}}", f"{BLOCK}.norm2.{{p}}"),
        Rule(f"{BLOCK}.channel.up.{{p}}", f"{BLOCK}.pwconv1.{{p}}"),
        Rule(f"{BLOCK}.channel.down.{{p}}", f"{BLOCK}.pwconv2.{{p}}"),
        Rule(f"{BLOCK}.scale1.gamma", f"{BLOCK}.gamma1.weight"),
        Rule(f"{BLOCK}.scale2.gamma", f"{BLOCK}.gamma2.weight"),
        Rule("head.norm.{p}", "backbone.norm3.{p}"),
        Rule("head.out.{p}", "head.fc.{p}"),
    ),
}
