"""FlatFormer: Flattened Window Attention for Efficient Point Cloud Transformer.

Paper: Liu et al., 2023, arXiv:2301.08739. Groups of 69, windows of 9 x 9 pillars, as in the paper; the
recipes of its code also use groups of 144 and windows of 13. Of the detector this is the point encoder:
four layers a block, along x, shifted along x, along y, shifted along y, norms behind. Tokens are points or
pillars as given: what makes pillars of points, and the convolutions on the map behind, are not part of it.
"""

PART = "token_mixer"


def turns(**options: int) -> tuple[dict[str, object], ...]:
    """The four layers of a block."""
    return tuple(
        {"name": "flat_window", "axis": axis, "shifted": shifted, **options}
        for axis in ("x", "y")
        for shifted in (False, True)
    )


PRESETS = {
    "flatformer": {
        "doc": "Two blocks of four layers; parameters counted in the paper's code, for the encoder.",
        "millions": 1.060,
        "modality": "pointcloud",
        "stem": "point",
        "backbone": "isotropic",
        "backbone.dim": 128,
        "backbone.depth": 8,
        "backbone.position": None,
        "backbone.norm": None,
        "block.order": "post",
        "block.channel": {"name": "mlp", "ratio": 2.0},
        "mixers": turns(),
        "head": "classification",
        "in_chans": 5,
        "num_outputs": 3,
    },
    "flatformer_nano": {
        "base": "flatformer",
        "doc": "Ours, for clouds of about 512 points: one block; places are among the features.",
        "backbone.position": "fourier",
        "backbone.dim": 64,
        "backbone.depth": 4,
        "mixers": turns(group=32, window=4, cells=24),
        "in_chans": 3,
        "num_outputs": 10,
    },
}
