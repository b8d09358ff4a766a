"""A ConvNet for the 2020s (ConvNeXt).

Paper: Liu et al., 2022, arXiv:2201.03545. Sizes: sec. 3 and the authors' code.
A block has one norm, behind the convolution, and one residual. Departs from it: rasters that 2 does not
divide are padded with zeros on merging, the authors' code drops the last row.
"""

from models.imports import Rule, conv

PART = "backbone"

LAYER = {"name": "layer", "eps": 1e-6}

PRESETS = {
    "convnext_tiny": {
        "doc": "ConvNeXt-T; parameters counted in the authors' code.",
        "millions": 28.589,
        "modality": "image",
        "stem": "patch",
        "stem.patch": 4,
        "stem.norm": True,
        "stem.eps": 1e-6,
        "backbone": "pyramid",
        "backbone.dims": (96, 192, 384, 768),
        "backbone.depths": (3, 3, 9, 3),
        "backbone.merge": {"name": "conv", "kernel": 2, "before": LAYER},
        "backbone.norm": None,
        "backbone.drop_path": 0.1,
        "block.order": "single",
        "block.norm": None,
        "block.layer_scale": 1e-6,
        "mixers": ({"name": "depthwise", "kernel": 7, "norm": LAYER},),
        "head": "classification",
        "head.norm": LAYER,
        "in_chans": 3,
        "num_outputs": 1000,
        "init_std": 0.02,
    },
    "convnext_small": {
        "base": "convnext_tiny",
        "doc": "ConvNeXt-S.",
        "millions": 50.223,
        "backbone.depths": (3, 3, 27, 3),
        "backbone.drop_path": 0.4,
    },
    "convnext_base": {
        "base": "convnext_small",
        "doc": "ConvNeXt-B.",
        "millions": 88.591,
        "backbone.dims": (128, 256, 512, 1024),
        "backbone.drop_path": 0.5,
    },
    "convnext_nano": {
        "base": "convnext_tiny",
        "doc": "Ours, for images of 32-64 pixels.",
        "backbone.dims": (48, 96, 192),
        "backbone.depths": (2, 2, 2),
        "backbone.drop_path": 0.0,
        "block.layer_scale": 0.1,
        "num_outputs": 10,
    },
}

BLOCK, HF = "backbone.stages.{i}.{j}", "convnext.encoder.stages.{i}.layers.{j}"
TIMM = "stages.{i}.blocks.{j}"
DOWN = "convnext.encoder.stages.{i+1}.downsampling_layer"

IMPORTS = {
    "transformers": (
        Rule("stem.project.{p}", "convnext.embeddings.patch_embeddings.{p}", conv(4, 4)),
        Rule("stem.norm.{p}", "convnext.embeddings.layernorm.{p}"),
        Rule(f"{BLOCK}.mixer.conv.conv.{{p}}", f"{HF}.dwconv.{{p}}"),
        Rule(f"{BLOCK}.mixer.conv.norm.{{p}}", f"{HF}.layernorm.{{p}}"),
        Rule(f"{BLOCK}.channel.up.{{p}}", f"{HF}.pwconv1.{{p}}"),
        Rule(f"{BLOCK}.channel.down.{{p}}", f"{HF}.pwconv2.{{p}}"),
        Rule(f"{BLOCK}.scale2.gamma", f"{HF}.layer_scale_parameter"),
        Rule("backbone.merges.{i}.before.{p}", f"{DOWN}.0.{{p}}"),
        Rule("backbone.merges.{i}.conv.conv.{p}", f"{DOWN}.1.{{p}}"),
        Rule("head.norm.{p}", "convnext.layernorm.{p}"),
        Rule("head.out.{p}", "classifier.{p}"),
    ),
    "timm": (
        Rule("stem.project.{p}", "stem.0.{p}", conv(4, 4)),
        Rule("stem.norm.{p}", "stem.1.{p}"),
        Rule(f"{BLOCK}.mixer.conv.conv.{{p}}", f"{TIMM}.conv_dw.{{p}}"),
        Rule(f"{BLOCK}.mixer.conv.norm.{{p}}", f"{TIMM}.norm.{{p}}"),
        Rule(f"{BLOCK}.channel.up.{{p}}", f"{TIMM}.mlp.fc1.{{p}}"),
        Rule(f"{BLOCK}.channel.down.{{p}}", f"{TIMM}.mlp.fc2.{{p}}"),
        Rule(f"{BLOCK}.scale2.gamma", f"{TIMM}.gamma"),
        Rule("backbone.merges.{i}.before.{p}", "stages.{i+1}.downsample.0.{p}"),
        Rule("backbone.merges.{i}.conv.conv.{p}", "stages.{i+1}.downsample.1.{p}"),
        Rule("head.norm.{p}", "head.norm.{p}"),
        Rule("head.out.{p}", "head.fc.{p}"),
    ),
}
