"""EcoFormer: Energy-Saving Attention with Linear Complexity.

Paper: Liu et al., 2022, arXiv:2209.09004. Hashed attention in the first three stages of PVT v2 (Wang et
al., 2021, arXiv:2106.13797), softmax attention in the last, as in its code.
"""

PART = "token_mixer"

NORM = {"name": "layer", "eps": 1e-6}


def mlp(ratio: float) -> dict[str, object]:
    """PVT v2's, with a depthwise convolution before the activation."""
    return {"channel": {"name": "conv_mlp", "ratio": ratio, "act_last": True, "skip": False}}


def stages(dims: tuple[int, ...], heads: tuple[int, ...], ratios: tuple[float, ...]) -> tuple[object, ...]:
    """One hashed mixer a stage, but for the last."""
    names = ("hashed",) * (len(dims) - 1) + ("attention",)
    return tuple(
        ({"name": name, "head_dim": dim // count, "block": mlp(ratio)},)
        for name, dim, count, ratio in zip(names, dims, heads, ratios, strict=True)
    )


PRESETS = {
    "ecoformer_pvt_v2_b0": {
        "doc": "PVTv2-B0; parameters of PVT v2 without the convolutions that shrink its keys.",
        "millions": 3.136,
        "modality": "image",
        "stem": "conv",
        "stem.layers": ({"kernel": 7, "stride": 4, "norm": "layer"},),
        "backbone": "pyramid",
        "backbone.dims": (32, 64, 160, 256),
        "backbone.depths": (2, 2, 2, 2),
        "backbone.merge": {"name": "conv", "before": NORM, "after": "layer"},
        "backbone.drop_path": 0.1,
        "backbone.norm": NORM,
        "block.norm": NORM,
        "mixers": stages((32, 64, 160, 256), (1, 2, 5, 8), (8.0, 8.0, 4.0, 4.0)),
        "head": "classification",
        "in_chans": 3,
        "num_outputs": 1000,
        "init_std": 0.02,
    },
    "ecoformer_nano": {
        "base": "ecoformer_pvt_v2_b0",
        "doc": "Ours, for images of 32-64 pixels: three stages.",
        "backbone.dims": (32, 64, 96),
        "backbone.depths": (1, 1, 1),
        "backbone.drop_path": 0.0,
        "mixers": stages((32, 64, 96), (2, 4, 6), (4.0, 4.0, 4.0)),
        "num_outputs": 10,
    },
}
