"""Swin Transformer V2: Scaling Up Capacity and Resolution.

Paper: Liu et al., 2021, arXiv:2111.09883. Sizes: table 1 and the authors' code, windows of 8 for images of
256 pixels. The norm follows each branch. Windows see padding, as in the authors' code.
Departs from it: no extra norm every six blocks, which only the largest two sizes have.
"""

from models.imports import Rule, conv, shaped, timm_block

PART = "backbone"

PRESETS = {
    "swinv2_tiny": {
        "base": "swin_tiny",
        "doc": "SwinV2-T, window 8; parameters counted in the authors' code.",
        "millions": 28.347,
        "backbone.merge": {"name": "patch", "norm_last": True},
        "block.order": "res_post",
        "mixers": (
            {"name": "cosine_window", "window": 8, "hide_padding": False},
            {"name": "cosine_window", "window": 8, "hide_padding": False, "shifted": True},
        ),
    },
    "swinv2_small": {
        "base": "swinv2_tiny",
        "doc": "SwinV2-S, window 8.",
        "millions": 49.732,
        "backbone.depths": (2, 2, 18, 2),
        "backbone.drop_path": 0.3,
    },
    "swinv2_base": {
        "base": "swinv2_small",
        "doc": "SwinV2-B, window 8.",
        "millions": 87.922,
        "backbone.dims": (128, 256, 512, 1024),
        "backbone.drop_path": 0.5,
    },
    "swinv2_nano": {
        "base": "swinv2_tiny",
        "doc": "Ours, for images of 32-64 pixels.",
        "backbone.dims": (48, 96, 192),
        "backbone.depths": (2, 2, 1),
        "backbone.drop_path": 0.0,
        "mixers": (
            {"name": "cosine_window", "window": 4, "head_dim": 24},
            {"name": "cosine_window", "window": 4, "head_dim": 24, "shifted": True},
        ),
        "num_outputs": 10,
    },
}

BLOCK, HF = "backbone.stages.{i}.{j}", "swinv2.encoder.layers.{i}.blocks.{j}"
TIMM = "layers.{i}.blocks.{j}"
HEADS = shaped((-1, 1, 1), (-1,))

IMPORTS = {
    "transformers": (
        Rule("stem.project.{p}", "swinv2.embeddings.patch_embeddings.projection.{p}", conv(4, 4)),
        Rule("stem.norm.{p}", "swinv2.embeddings.norm.{p}"),
        Rule(f"{BLOCK}.norm1.{{p}}", f"{HF}.layernorm_before.{{p}}"),
        Rule(f"{BLOCK}.norm2.{{p}}", f"{HF}.layernorm_after.{{p}}"),
        Rule(
            f"{BLOCK}.mixer.qkv.weight",
            tuple(f"{HF}.attention.self.{x}.weight" for x in ("query", "key", "value")),
        ),
        Rule(f"{BLOCK}.mixer.q_bias", f"{HF}.attention.self.query.bias"),
        Rule(f"{BLOCK}.mixer.v_bias", f"{HF}.attention.self.value.bias"),
        Rule(f"{BLOCK}.mixer.log_scale", f"{HF}.attention.self.logit_scale", HEADS),
        Rule(
            f"{BLOCK}.mixer.distance.{{k}}.{{p}}",
            f"{HF}.attention.self.continuous_position_bias_mlp.{{k}}.{{p}}",
        ),
        Rule(f"{BLOCK}.mixer.out.{{p}}", f"{HF}.attention.output.dense.{{p}}"),
        Rule(f"{BLOCK}.channel.up.{{p}}", f"{HF}.intermediate.dense.{{p}}"),
        Rule(f"{BLOCK}.channel.down.{{p}}", f"{HF}.output.dense.{{p}}"),
        Rule("backbone.merges.{i}.reduce.{p}", "swinv2.encoder.layers.{i}.downsample.reduction.{p}"),
        Rule("backbone.merges.{i}.norm.{p}", "swinv2.encoder.layers.{i}.downsample.norm.{p}"),
        Rule("backbone.norm.{p}", "swinv2.layernorm.{p}"),
        Rule("head.out.{p}", "classifier.{p}"),
    ),
    "timm": (
        Rule("stem.project.{p}", "patch_embed.proj.{p}", conv(4, 4)),
        Rule("stem.norm.{p}", "patch_embed.norm.{p}"),
        *timm_block(BLOCK, TIMM),
        Rule(f"{BLOCK}.mixer.q_bias", f"{TIMM}.attn.q_bias"),
        Rule(f"{BLOCK}.mixer.v_bias", f"{TIMM}.attn.v_bias"),
        Rule(f"{BLOCK}.mixer.log_scale", f"{TIMM}.attn.logit_scale", HEADS),
        Rule(f"{BLOCK}.mixer.distance.{{k}}.{{p}}", f"{TIMM}.attn.cpb_mlp.{{k}}.{{p}}"),
        Rule("backbone.merges.{i}.reduce.{p}", "layers.{i+1}.downsample.reduction.{p}"),
        Rule("backbone.merges.{i}.norm.{p}", "layers.{i+1}.downsample.norm.{p}"),
        Rule("backbone.norm.{p}", "norm.{p}"),
        Rule("head.out.{p}", "head.fc.{p}"),
    ),
}
