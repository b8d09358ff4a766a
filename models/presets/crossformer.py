"""CrossFormer: A Versatile Vision Transformer Hinging on Cross-scale Attention.

Paper: Wang et al., 2021, arXiv:2108.00154. Sizes: table 1 and the authors' code.
Groups of 7 neighbours and groups at intervals of 8, 4 and 2 take turns; the last stage is one group of
neighbours. Where the paper fixes the interval, the authors' code fixes the group: the same at 224 pixels.
"""

from models.imports import Rule, timm_block

PART = "backbone"


def turns(*intervals: int, **options: int) -> tuple[tuple[dict[str, object], ...], ...]:
    """Near and far in turn for each stage; near alone in the last."""
    near: dict[str, object] = {"name": "dynamic_window", "group": 7, **options}
    far = tuple({"name": "dynamic_window", "interval": i, **options} for i in intervals)
    return (*((near, one) for one in far), (near,))


PRESETS = {
    "crossformer_small": {
        "doc": "CrossFormer-S; parameters counted in the authors' code (the paper prints 30.7 M).",
        "millions": 30.656,
        "modality": "image",
        "stem": "cross_scale",
        "backbone": "pyramid",
        "backbone.dims": (96, 192, 384, 768),
        "backbone.depths": (2, 2, 6, 2),
        "backbone.merge": "cross_scale",
        "backbone.drop_path": 0.2,
        "mixers": turns(8, 4, 2),
        "head": "classification",
        "in_chans": 3,
        "num_outputs": 1000,
        "init_std": 0.02,
    },
    "crossformer_tiny": {
        "base": "crossformer_small",
        "doc": "CrossFormer-T.",
        "millions": 27.799,
        "backbone.dims": (64, 128, 256, 512),
        "backbone.depths": (1, 1, 8, 6),
        "backbone.drop_path": 0.1,
    },
    "crossformer_base": {
        "base": "crossformer_small",
        "doc": "CrossFormer-B.",
        "millions": 51.983,
        "backbone.depths": (2, 2, 18, 2),
        "backbone.drop_path": 0.3,
    },
    "crossformer_nano": {
        "base": "crossformer_small",
        "doc": "Ours, for images of 32-64 pixels.",
        "stem.kernels": (4, 8, 16),
        "backbone.dims": (48, 96, 192),
        "backbone.depths": (2, 2, 1),
        "backbone.drop_path": 0.0,
        "mixers": turns(4, 2, head_dim=24),
        "num_outputs": 10,
    },
}

BLOCK, THEIRS = "backbone.stages.{i}.{j}", "layers.{i}.blocks.{j}"


def bias() -> tuple[Rule, ...]:
    """The rules of the network behind the bias: three groups of norm, ReLU and linear map."""
    ours, theirs = f"{BLOCK}.mixer.bias", f"{THEIRS}.attn.pos"
    rules = [Rule(f"{ours}.0.{{p}}", f"{theirs}.pos_proj.{{p}}")]
    for k in range(3):
        rules.append(Rule(f"{ours}.{3 * k + 1}.{{p}}", f"{theirs}.pos{k + 1}.0.{{p}}"))
        rules.append(Rule(f"{ours}.{3 * k + 3}.{{p}}", f"{theirs}.pos{k + 1}.2.{{p}}"))
    return tuple(rules)


IMPORTS = {
    "authors": (
        Rule("stem.scales.convs.{k}.conv.{p}", "patch_embed.projs.{k}.{p}"),
        Rule("stem.norm.{p}", "patch_embed.norm.{p}"),
        *timm_block(BLOCK, THEIRS),
        *bias(),
        Rule(None, f"{THEIRS}.attn.biases"),
        Rule(None, f"{THEIRS}.attn.relative_position_index"),
        Rule("backbone.merges.{i}.norm.{p}", "layers.{i}.downsample.norm.{p}"),
        Rule("backbone.merges.{i}.scales.convs.{k}.conv.{p}", "layers.{i}.downsample.reductions.{k}.{p}"),
        Rule("backbone.norm.{p}", "norm.{p}"),
        Rule("head.out.{p}", "head.{p}"),
    ),
}
