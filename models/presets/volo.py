"""VOLO: Vision Outlooker for Visual Recognition.

Paper: Yuan et al., 2021, arXiv:2106.13112. Sizes: table 2 and the authors' code.
Outlookers at stride 8, then attention at stride 16 with learned positions, then a class token that reads both
alone. Outlooks have stride 2, as in the authors' code. Departs from it: the loss for single tokens, whose
labels another network makes, is left out; their scores are not.
"""

from models.imports import Rule, shaped

PART = "token_mixer"

STEM = {"width": 1 / 3, "bias": False, "norm": "batch", "act": "relu"}
ATTENTION = {"name": "attention", "qkv_bias": False}

PRESETS = {
    "volo_d1": {
        "doc": "VOLO-D1 for 224 pixels; parameters counted in the authors' code (the paper prints 26.6 M).",
        "millions": 26.632,
        "modality": "image",
        "stem": "conv",
        "stem.layers": ({**STEM, "kernel": 7, "stride": 2}, STEM, STEM, {"kernel": 4, "stride": 4}),
        "backbone": "pyramid",
        "backbone.dims": (192, 384),
        "backbone.depths": (4, 14),
        "backbone.merge": {"name": "conv", "kernel": 2},
        "backbone.norm": None,
        "backbone.drop_path": 0.1,
        "block.channel": {"name": "mlp", "ratio": 3.0},
        "mixers": (
            ({"name": "outlook"},),
            (
                {**ATTENTION, "block": {"position": {"name": "learned", "grid": (14, 14)}}},
                *[ATTENTION] * 13,
            ),
        ),
        "head": "class_attention",
        "head.ratio": 3.0,
        "head.bias": False,
        "head.every": True,
        "in_chans": 3,
        "num_outputs": 1000,
        "init_std": 0.02,
    },
    "volo_nano": {
        "base": "volo_d1",
        "doc": "Ours, for images of 32-64 pixels: tokens of 4 pixels, one convolution before them.",
        "stem.layers": ({"width": 0.5, "stride": 2, "norm": "batch", "act": "relu"}, {"stride": 2}),
        "backbone.dims": (64, 128),
        "backbone.depths": (2, 3),
        "backbone.drop_path": 0.0,
        "mixers": (
            ({"name": "outlook"},),
            (
                {**ATTENTION, "block": {"position": {"name": "learned", "grid": (8, 8)}}},
                *[ATTENTION] * 2,
            ),
        ),
        "num_outputs": 10,
    },
}


def parts(ours: str, theirs: str, *names: tuple[str, str]) -> tuple[Rule, ...]:
    """Rules for parts that are called one way here and another way there."""
    return tuple(Rule(f"{ours}.{a}.{{p}}", f"{theirs}.{b}.{{p}}") for a, b in names)


NORMS = (("norm1", "norm1"), ("norm2", "norm2"))
MLP = (("channel.up", "mlp.fc1"), ("channel.down", "mlp.fc2"))
OUTLOOK = (("mixer.value", "attn.v"), ("mixer.weights", "attn.attn"), ("mixer.out", "attn.proj"))
GLOBAL = (("mixer.attention.qkv", "attn.qkv"), ("mixer.attention.out", "attn.proj"))
CLASS = (("q", "attn.q"), ("kv", "attn.kv"), ("out", "attn.proj"), ("up", "mlp.fc1"), ("down", "mlp.fc2"))

IMPORTS = {
    "timm": (
        *(
            rule
            for i in range(3)
            for rule in (
                Rule(f"stem.layers.{i}.conv.{{p}}", f"patch_embed.conv.{3 * i}.{{p}}"),
                Rule(f"stem.layers.{i}.norm.stats.{{p}}", f"patch_embed.conv.{3 * i + 1}.{{p}}"),
            )
        ),
        Rule("stem.layers.3.conv.{p}", "patch_embed.proj.{p}"),
        *parts("backbone.stages.0.{j}", "network.0.{j}", *NORMS, *OUTLOOK, *MLP),
        Rule("backbone.merges.0.conv.conv.{p}", "network.1.proj.{p}"),
        Rule("backbone.stages.1.0.position.table", "pos_embed", shaped((1, 14, 14, -1), (1, 196, -1))),
        # 14 blocks in a row here, 4 and 8 and 2 there
        *parts("backbone.stages.1.{j+12}", "network.4.{j}", *NORMS, *GLOBAL, *MLP),
        *parts("backbone.stages.1.{j+4}", "network.3.{j}", *NORMS, *GLOBAL, *MLP),
        *parts("backbone.stages.1.{j}", "network.2.{j}", *NORMS, *GLOBAL, *MLP),
        Rule("head.cls", "cls_token"),
        *parts("head.blocks.{j}", "post_network.{j}", *NORMS, *CLASS),
        Rule("head.norm.{p}", "norm.{p}"),
        Rule("head.out.{p}", "head.{p}"),
        Rule("head.each.{p}", "aux_head.{p}"),
    ),
}
