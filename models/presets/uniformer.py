"""UniFormer: Unifying Convolution and Self-attention for Visual Recognition.

Paper: Li et al., 2022, arXiv:2201.09450; clips: arXiv:2201.04676. Sizes: table 1. Two stages of local
relations with batch norms, two of attention; a depthwise convolution for the position in every block.
"""

from collections.abc import Mapping, Sequence

from models.imports import Rule, conv, timm_block

PART = "backbone"


def stages(kinds: str, head_dim: int, axes: int = 2) -> Sequence[Sequence[Mapping[str, object]]]:
    """Mixers by stage: "l", local relations; "g", global attention."""
    near = {"name": "local_relation", "axes": axes, "block": {"norm": "batch"}}
    far = {"name": "attention", "head_dim": head_dim}
    return tuple((near if kind == "l" else far,) for kind in kinds)


PRESETS = {
    "uniformer_small": {
        "doc": "UniFormer-S; parameters counted in the paper's code.",
        "millions": 21.545,
        "modality": "image",
        "stem": "patch",
        "stem.patch": 4,
        "stem.norm": True,
        "backbone": "pyramid",
        "backbone.dims": (64, 128, 320, 512),
        "backbone.depths": (3, 4, 8, 3),
        "backbone.merge": {"name": "conv", "kernel": 2, "after": "layer"},
        "backbone.norm": "batch",
        "backbone.drop_path": 0.1,
        "block.norm": {"name": "layer", "eps": 1e-6},
        "block.position": "conditional",
        "mixers": stages("llgg", 64),
        "head": "classification",
        "in_chans": 3,
        "num_outputs": 1000,
        "init_std": 0.02,
    },
    "uniformer_base": {
        "base": "uniformer_small",
        "doc": "UniFormer-B; counted likewise.",
        "millions": 49.777,
        "backbone.depths": (5, 8, 20, 7),
        "backbone.drop_path": 0.3,
    },
    "uniformer_video_small": {
        "base": "uniformer_small",
        "doc": "UniFormer-S for clips of 16 frames, 400 classes; counted likewise.",
        "millions": 21.4,
        "modality": "video",
        "stem": "tubelet",
        "stem.frames": 2,
        "stem.patch": 4,
        "stem.reach": 3,
        "stem.norm": True,
        "backbone.merge": {
            "name": "conv",
            "axes": 3,
            "kernel": (1, 2, 2),
            "stride": (1, 2, 2),
            "after": "layer",
        },
        "mixers": stages("llgg", 64, 3),
        "num_outputs": 400,
    },
    "uniformer_nano": {
        "base": "uniformer_small",
        "doc": "Ours, for small images.",
        "backbone.dims": (32, 64, 128),
        "backbone.depths": (1, 1, 1),
        "backbone.drop_path": 0.0,
        "mixers": stages("llg", 32),
        "num_outputs": 10,
    },
    "uniformer_video_nano": {
        "base": "uniformer_video_small",
        "doc": "Ours, for small clips.",
        "backbone.dims": (32, 64, 128),
        "backbone.depths": (1, 1, 1),
        "backbone.drop_path": 0.0,
        "mixers": stages("llg", 32, 3),
        "num_outputs": 10,
    },
}


def local(k: int) -> tuple[Rule, ...]:
    """Blocks of stage k on clips; what is a linear map here is a convolution of one voxel there."""
    ours, theirs = f"backbone.stages.{k}.{{j}}", f"backbone.blocks{k + 1}.{{j}}"
    maps = {"mixer.value": "conv1", "mixer.out": "conv2", "channel.up": "mlp.fc1", "channel.down": "mlp.fc2"}
    return (
        Rule(f"{ours}.position.conv.conv.{{p}}", f"{theirs}.pos_embed.{{p}}"),
        Rule(f"{ours}.norm1.stats.{{p}}", f"{theirs}.norm1.{{p}}"),
        Rule(f"{ours}.norm2.stats.{{p}}", f"{theirs}.norm2.{{p}}"),
        Rule(f"{ours}.mixer.affinity.conv.{{p}}", f"{theirs}.attn.{{p}}"),
        *(Rule(f"{ours}.{a}.{{p}}", f"{theirs}.{b}.{{p}}", conv(1, 1, 1)) for a, b in maps.items()),
    )


def whole(k: int) -> tuple[Rule, ...]:
    """Blocks of stage k with attention."""
    ours, theirs = f"backbone.stages.{k}.{{j}}", f"backbone.blocks{k + 1}.{{j}}"
    return (
        Rule(f"{ours}.position.conv.conv.{{p}}", f"{theirs}.pos_embed.{{p}}"),
        *timm_block(ours, theirs, mixer="mixer.attention"),
    )


IMPORTS = {
    "mmaction2": (  # models of clips
        Rule("stem.project.conv.{p}", "backbone.patch_embed1.proj.{p}"),
        Rule("stem.norm.{p}", "backbone.patch_embed1.norm.{p}"),
        Rule("backbone.merges.{i}.conv.conv.{p}", "backbone.patch_embed{i+2}.proj.{p}"),
        Rule("backbone.merges.{i}.conv.norm.{p}", "backbone.patch_embed{i+2}.norm.{p}"),
        *local(0),
        *local(1),
        *whole(2),
        *whole(3),
        Rule("backbone.norm.stats.{p}", "backbone.norm.{p}"),
        Rule("head.out.{p}", "cls_head.fc_cls.{p}"),
    ),
}
