"""MetaFormer Is Actually What You Need for Vision.

Paper: Yu et al., 2021, arXiv:2111.11418. Sizes: table 1 and the authors' code.
The last norm stands before pooling, as in the authors' code; timm pools first and norms the mean with a
layer norm of eps 1e-6: "backbone.norm": None, "head.norm": {"name": "layer", "eps": 1e-6} is that form.
"""

from models.imports import Rule, conv

PART = "backbone"

PRESETS = {
    "poolformer_s12": {
        "doc": "PoolFormer-S12; parameters counted in the authors' code (the paper prints 12 M).",
        "millions": 11.915,
        "modality": "image",
        "stem": "conv",
        "stem.layers": ({"kernel": 7, "stride": 4},),
        "backbone": "pyramid",
        "backbone.dims": (64, 128, 320, 512),
        "backbone.depths": (2, 2, 6, 2),
        "backbone.merge": "conv",
        "backbone.norm": "group",
        "backbone.drop_path": 0.1,
        "block.norm": "group",
        "block.layer_scale": 1e-5,
        "mixers": ({"name": "pool"},),
        "head": "classification",
        "in_chans": 3,
        "num_outputs": 1000,
        "init_std": 0.02,
    },
    "poolformer_s24": {
        "base": "poolformer_s12",
        "doc": "PoolFormer-S24.",
        "millions": 21.389,
        "backbone.depths": (4, 4, 12, 4),
    },
    "poolformer_s36": {
        "base": "poolformer_s12",
        "doc": "PoolFormer-S36.",
        "millions": 30.863,
        "backbone.depths": (6, 6, 18, 6),
        "backbone.drop_path": 0.2,
        "block.layer_scale": 1e-6,
    },
    "poolformer_nano": {
        "base": "poolformer_s12",
        "doc": "Ours, for images of 32-64 pixels.",
        "stem.layers": ({"kernel": 7, "stride": 4},),
        "backbone.dims": (48, 96, 192),
        "backbone.depths": (2, 2, 2),
        "backbone.drop_path": 0.0,
        "block.layer_scale": 0.1,
        "num_outputs": 10,
    },
}

BLOCK, HF = "backbone.stages.{i}.{j}", "poolformer.encoder.block.{i}.{j}"
TIMM = "stages.{i}.blocks.{j}"

IMPORTS = {
    "transformers": (
        Rule("stem.layers.0.conv.{p}", "poolformer.encoder.patch_embeddings.0.projection.{p}"),
        Rule("backbone.merges.{i}.conv.conv.{p}", "poolformer.encoder.patch_embeddings.{i+1}.projection.{p}"),
        Rule(f"{BLOCK}.norm1.{{p}}", f"{HF}.before_norm.{{p}}"),
        Rule(f"{BLOCK}.norm2.{{p}}", f"{HF}.after_norm.{{p}}"),
        Rule(f"{BLOCK}.scale1.gamma", f"{HF}.layer_scale_1"),
        Rule(f"{BLOCK}.scale2.gamma", f"{HF}.layer_scale_2"),
        Rule(f"{BLOCK}.channel.up.{{p}}", f"{HF}.output.conv1.{{p}}", conv(1, 1)),
        Rule(f"{BLOCK}.channel.down.{{p}}", f"{HF}.output.conv2.{{p}}", conv(1, 1)),
        Rule("backbone.norm.{p}", "norm.{p}"),
        Rule("head.out.{p}", "classifier.{p}"),
    ),
    "timm": (
        Rule("stem.layers.0.conv.{p}", "stem.conv.{p}"),
        Rule("backbone.merges.{i}.conv.conv.{p}", "stages.{i+1}.downsample.conv.{p}"),
        Rule(f"{BLOCK}.norm1.{{p}}", f"{TIMM}.norm1.{{p}}"),
        Rule(f"{BLOCK}.norm2.{{p}}", f"{TIMM}.norm2.{{p}}"),
        Rule(f"{BLOCK}.scale1.gamma", f"{TIMM}.layer_scale1.scale"),
        Rule(f"{BLOCK}.scale2.gamma", f"{TIMM}.layer_scale2.scale"),
        Rule(f"{BLOCK}.channel.up.{{p}}", f"{TIMM}.mlp.fc1.{{p}}", conv(1, 1)),
        Rule(f"{BLOCK}.channel.down.{{p}}", f"{TIMM}.mlp.fc2.{{p}}", conv(1, 1)),
        Rule("head.norm.{p}", "head.norm.{p}"),
        Rule("head.out.{p}", "head.fc.{p}"),
    ),
}
