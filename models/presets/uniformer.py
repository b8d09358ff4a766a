"""UniFormer: Unifying Convolution and Self-attention for Visual Recognition.

Paper: Li et al., 2022, arXiv:2201.09450; clips: arXiv:2201.04676. Sizes: table 1. Two stages of local
relations with batch norms, two of attention; a depthwise convolution for the position in every block.
"""

from collections.abc import Mapping, Sequence

PART = "backbone"


def stages(kinds: str, head_dim: int, axes: int = 2) -> Sequence[Sequence[Mapping[str, object]]]:
    """Mixers by stage: "l", local relations; "g", global attention."""
    local = {"name": "local_relation", "axes": axes, "block": {"norm": "batch"}}
    whole = {"name": "attention", "head_dim": head_dim}
    return tuple((local if kind == "l" else whole,) for kind in kinds)


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
