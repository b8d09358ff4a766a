"""ConViT: Improving Vision Transformers with Soft Convolutional Inductive Biases.

Paper: d'Ascoli et al., 2021, arXiv:2103.10697. Sizes: table 2 and the authors' code.
Ten gated positional blocks, then the class token joins two of plain attention. Departs from it: nothing.
"""

from models.imports import Rule, timm_vit

PART = "token_mixer"


def turns(local: int, plain: int, head_dim: int = 48) -> tuple[dict[str, object], ...]:
    """Blocks that start as convolutions, then others."""
    return (
        *[{"name": "gated_positional", "head_dim": head_dim}] * local,
        *[{"name": "attention", "head_dim": head_dim, "qkv_bias": False}] * plain,
    )


PRESETS = {
    "convit_tiny": {
        "base": "pre_ln_tiny",
        "doc": "ConViT-Ti; parameters counted in the authors' code (the paper prints 6 M).",
        "millions": 5.711,
        "backbone.position": {"name": "learned", "grid": (14, 14)},
        "backbone.class_from": 10,
        "backbone.drop_path": 0.1,
        "mixers": turns(10, 2),
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
        Rule(f"{BLOCK}.mixer.qk.{{p}}", f"{THEIRS}.attn.qk.{{p}}"),
        Rule(f"{BLOCK}.mixer.value", f"{THEIRS}.attn.v.weight"),
        Rule(f"{BLOCK}.mixer.place_{{p}}", f"{THEIRS}.attn.pos_proj.{{p}}"),
        Rule(f"{BLOCK}.mixer.gate", f"{THEIRS}.attn.gating_param"),
        # the same name there for both kinds of attention; the last two blocks are plain
        *(Rule(f"backbone.blocks.{i}.mixer.out.{{p}}", f"blocks.{i}.attn.proj.{{p}}") for i in range(10)),
        *timm_vit(16),
    ),
}
