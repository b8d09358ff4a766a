"""Swin Transformer: Hierarchical Vision Transformer using Shifted Windows.

Paper: Liu et al., 2021, arXiv:2103.14030. Sizes: table 7 and appendix A1.
Windows see padding, as in the paper's code.
"""

from models.imports import Rule, conv, timm_block

PART = "backbone"

PRESETS = {
    "swin_tiny": {
        "doc": "Swin-T; parameters counted in the paper's code.",
        "millions": 28.288,
        "modality": "image",
        "stem": "patch",
        "stem.patch": 4,
        "stem.norm": True,
        "backbone": "pyramid",
        "backbone.dims": (96, 192, 384, 768),
        "backbone.depths": (2, 2, 6, 2),
        "backbone.drop_path": 0.2,
        "mixers": (
            {"name": "window", "window": 7, "hide_padding": False},
            {"name": "window", "window": 7, "hide_padding": False, "shifted": True},
        ),
        "head": "classification",
        "in_chans": 3,
        "num_outputs": 1000,
        "init_std": 0.02,
    },
    "swin_small": {
        "base": "swin_tiny",
        "doc": "Swin-S.",
        "millions": 49.606,
        "backbone.depths": (2, 2, 18, 2),
        "backbone.drop_path": 0.3,
    },
    "swin_base": {
        "base": "swin_small",
        "doc": "Swin-B.",
        "millions": 87.768,
        "backbone.dims": (128, 256, 512, 1024),
        "backbone.drop_path": 0.5,
    },
    "swin_nano": {"base": "window_nano", "doc": "Ours, for small images."},
}

BLOCK, HF = "backbone.stages.{i}.{j}", "swin.encoder.layers.{i}.blocks.{j}"
TIMM = "layers.{i}.blocks.{j}"

IMPORTS = {
    "transformers": (
        Rule("stem.project.{p}", "swin.embeddings.patch_embeddings.projection.{p}", conv(4, 4)),
        Rule("stem.norm.{p}", "swin.embeddings.norm.{p}"),
        Rule(f"{BLOCK}.norm1.{{p}}", f"{HF}.layernorm_before.{{p}}"),
        Rule(f"{BLOCK}.norm2.{{p}}", f"{HF}.layernorm_after.{{p}}"),
        Rule(f"{BLOCK}.mixer.qkv.{{p}}", tuple(f"{HF}.attention.{x}_proj.{{p}}" for x in "qkv")),
        Rule(f"{BLOCK}.mixer.out.{{p}}", f"{HF}.attention.o_proj.{{p}}"),
        Rule(f"{BLOCK}.mixer.bias", f"{HF}.attention.relative_position_bias.relative_position_bias_table"),
        Rule(None, f"{HF}.attention.relative_position_bias.relative_position_index"),
        Rule(f"{BLOCK}.channel.up.{{p}}", f"{HF}.mlp.fc1.{{p}}"),
        Rule(f"{BLOCK}.channel.down.{{p}}", f"{HF}.mlp.fc2.{{p}}"),
        Rule("backbone.merges.{i}.reduce.{p}", "swin.encoder.layers.{i}.downsample.reduction.{p}"),
        Rule("backbone.merges.{i}.norm.{p}", "swin.encoder.layers.{i}.downsample.norm.{p}"),
        Rule("backbone.norm.{p}", "swin.layernorm.{p}"),
        Rule("head.out.{p}", "classifier.{p}"),
    ),
    "timm": (
        Rule("stem.project.{p}", "patch_embed.proj.{p}", conv(4, 4)),
        Rule("stem.norm.{p}", "patch_embed.norm.{p}"),
        *timm_block(BLOCK, TIMM),
        Rule(f"{BLOCK}.mixer.bias", f"{TIMM}.attn.relative_position_bias_table"),
        Rule(None, f"{TIMM}.attn.relative_position_index"),
        Rule(None, f"{TIMM}.attn_mask"),
        Rule("backbone.merges.{i}.reduce.{p}", "layers.{i+1}.downsample.reduction.{p}"),
        Rule("backbone.merges.{i}.norm.{p}", "layers.{i+1}.downsample.norm.{p}"),
        Rule("backbone.norm.{p}", "norm.{p}"),
        Rule("head.out.{p}", "head.fc.{p}"),
    ),
}
