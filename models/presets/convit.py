"""ConViT: Improving Vision Transformers with Soft Convolutional Inductive Biases.

Paper: d'Ascoli et al., 2021, arXiv:2103.10697. Sizes: table 2 and the authors' code.
Ten gated positional blocks, then the class token joins two of plain attention. Departs from it: nothing.
"""

from models.imports import Rule, conv

PART = "token_mixer"

LAYER = {"name": "layer", "eps": 1e-6}


def turns(local: int, plain: int, head_dim: int = 48) -> tuple[dict[str, object], ...]:
    """Blocks that start as convolutions, then others."""
    return (
        *[{"name": "gated_positional", "head_dim": head_dim}] * local,
        *[{"name": "attention", "head_dim": head_dim, "qkv_bias": False}] * plain,
    )


PRESETS = {
    "convit_tiny": {
        "doc": "ConViT-Ti; parameters counted in the authors' code (the paper prints 6 M).",
        "millions": 5.711,
        "modality": "image",
        "stem": "patch",
        "stem.patch": 16,
        "backbone": "isotropic",
        "backbone.dim": 192,
        "backbone.depth": 12,
        "backbone.position": {"name": "learned", "grid": (14, 14)},
        "backbone.norm": LAYER,
        "backbone.class_token": "first",
        "backbone.class_from": 10,
        "backbone.drop_path": 0.1,
        "block.norm": LAYER,
        "mixers": turns(10, 2),
        "head": "classification",
        "head.source": "class",
        "in_chans": 3,
        "num_outputs": 1000,
        "init_std": 0.02,
    },
    "convit_small": {
        "base": "convit_tiny",
        "doc": "ConViT-S.",
        "millions": 27.776,
        "backbone.dim": 432,
    },
    "convit_base": {
        "base": "convit_tiny",
        "doc": "ConViT-B.",
        "millions": 86.541,
        "backbone.dim": 768,
    },
    "convit_nano": {
        "base": "convit_tiny",
        "doc": "Ours, for images of 32-64 pixels.",
        "stem.patch": 4,
        "backbone.dim": 96,
        "backbone.depth": 5,
        "backbone.position": {"name": "learned", "grid": (8, 8)},
        "backbone.class_from": 4,
        "backbone.drop_path": 0.0,
        "mixers": turns(4, 1, head_dim=24),
        "num_outputs": 10,
    },
}

BLOCK, THEIRS = "backbone.blocks.{i}", "blocks.{i}"

IMPORTS = {
    "timm": (
        Rule("stem.project.{p}", "patch_embed.proj.{p}", conv(16, 16)),
        Rule("backbone.position.table", "pos_embed"),
        Rule("backbone.cls", "cls_token"),
        Rule(f"{BLOCK}.norm1.{{p}}", f"{THEIRS}.norm1.{{p}}"),
        Rule(f"{BLOCK}.norm2.{{p}}", f"{THEIRS}.norm2.{{p}}"),
        Rule(f"{BLOCK}.mixer.qk.{{p}}", f"{THEIRS}.attn.qk.{{p}}"),
        Rule(f"{BLOCK}.mixer.value", f"{THEIRS}.attn.v.weight"),
        Rule(f"{BLOCK}.mixer.place_{{p}}", f"{THEIRS}.attn.pos_proj.{{p}}"),
        Rule(f"{BLOCK}.mixer.gate", f"{THEIRS}.attn.gating_param"),
        Rule(f"{BLOCK}.mixer.attention.qkv.{{p}}", f"{THEIRS}.attn.qkv.{{p}}"),
        # the same name there for both kinds of attention; the last two blocks are plain
        *(Rule(f"backbone.blocks.{i}.mixer.out.{{p}}", f"blocks.{i}.attn.proj.{{p}}") for i in range(10)),
        Rule(f"{BLOCK}.mixer.attention.out.{{p}}", f"{THEIRS}.attn.proj.{{p}}"),
        Rule(f"{BLOCK}.channel.up.{{p}}", f"{THEIRS}.mlp.fc1.{{p}}"),
        Rule(f"{BLOCK}.channel.down.{{p}}", f"{THEIRS}.mlp.fc2.{{p}}"),
        Rule("backbone.norm.{p}", "norm.{p}"),
        Rule("head.out.{p}", "head.{p}"),
    ),
}
