"""MaxViT: Multi-Axis Vision Transformer.

Paper: Tu et al., 2022, arXiv:2204.01697. Sizes: table 1 and the authors' code.
A block is an inverted bottleneck, attention in windows, attention on a grid of the whole raster; here three
blocks. The first bottleneck of a stage halves the raster, so it is the merge, and the stem alone is a stage.
Departs from it: windows and grids that the raster does not fill see no padding, the authors' code refuses
such sizes.
"""

from models.imports import Rule, Verb, conv, timm_block

PART = "backbone"

BATCH = {"name": "batch", "eps": 1e-3, "momentum": 0.01}
WINDOW = {"name": "window", "window": 7}
GRID = {"name": "window", "window": 7, "strided": True}
BOTTLENECK = {"name": "mbconv", "norm": BATCH, "block": {"norm": None, "channel": None}}
TURN = (WINDOW, GRID, BOTTLENECK)

PRESETS = {
    "maxvit_tiny": {
        "doc": "MaxViT-T for 224 pixels; parameters counted in the authors' weights (the paper prints 31 M).",
        "millions": 30.917,
        "modality": "image",
        "stem": "conv",
        "stem.layers": (
            {"stride": 2, "pad": 0, "norm": BATCH, "act": "gelu_tanh"},
            {},
        ),
        "backbone": "pyramid",
        "backbone.dims": (64, 64, 128, 256, 512),
        "backbone.depths": (0, 5, 5, 14, 5),  # 2, 2, 5, 2 of the paper's, whose first bottleneck merges
        "backbone.merge": {"name": "mbconv", "norm": BATCH},
        "backbone.norm": None,
        "backbone.drop_path": 0.2,
        "block.channel": {"name": "mlp", "act": "gelu_tanh"},
        "mixers": ((), TURN, TURN, TURN, TURN),
        "head": "classification",
        "head.norm": "layer",
        "head.act": "tanh",
        "in_chans": 3,
        "num_outputs": 1000,
        "init_std": 0.02,
    },
    "maxvit_nano": {
        "base": "maxvit_tiny",
        "doc": "Ours, for images of 32-64 pixels.",
        "stem.layers": ({"stride": 2, "norm": "batch", "act": "gelu"}, {}),
        "backbone.dims": (24, 24, 48, 96),
        "backbone.depths": (0, 2, 5, 2),
        "backbone.merge": "mbconv",
        "backbone.drop_path": 0.0,
        "mixers": (
            (),
            *[
                (
                    {"name": "window", "window": 4, "head_dim": 12},
                    {"name": "window", "window": 4, "head_dim": 12, "strided": True},
                    {"name": "mbconv", "block": {"norm": None, "channel": None}},
                )
            ]
            * 3,
        ),
        "num_outputs": 10,
    },
}


def side(count: int) -> int:
    """A square's side."""
    return round(count**0.5)


# theirs counts offsets from query to key, and heads come first
TABLE = Verb(
    lambda parts: parts[0].flip(1, 2).flatten(1).T.contiguous(),
    lambda ours, _: [ours.T.unflatten(1, (side(ours.shape[0]),) * 2).flip(1, 2)],
)


def bottleneck(ours: str, theirs: str) -> tuple[Rule, ...]:
    """The rules of one inverted bottleneck."""
    return (
        Rule(f"{ours}.branch.norm.stats.{{p}}", f"{theirs}.pre_norm.{{p}}"),
        Rule(f"{ours}.branch.expand.conv.{{p}}", f"{theirs}.conv1_1x1.{{p}}"),
        Rule(f"{ours}.branch.expand.norm.stats.{{p}}", f"{theirs}.norm1.{{p}}"),
        Rule(f"{ours}.branch.filter.conv.{{p}}", f"{theirs}.conv2_kxk.{{p}}"),
        Rule(f"{ours}.branch.filter.norm.stats.{{p}}", f"{theirs}.norm2.{{p}}"),
        Rule(f"{ours}.branch.squeeze.squeeze.{{p}}", f"{theirs}.se.fc1.{{p}}", conv(1, 1)),
        Rule(f"{ours}.branch.squeeze.excite.{{p}}", f"{theirs}.se.fc2.{{p}}", conv(1, 1)),
        Rule(f"{ours}.branch.shrink.conv.{{p}}", f"{theirs}.conv3_1x1.{{p}}"),
    )


def attention(ours: str, theirs: str) -> tuple[Rule, ...]:
    """The rules of one block with attention."""
    return (
        *timm_block(ours, theirs),
        Rule(f"{ours}.mixer.bias", f"{theirs}.attn.rel_pos.relative_position_bias_table", TABLE),
    )


IMPORTS = {
    "timm": (
        Rule("stem.layers.0.conv.{p}", "stem.conv1.{p}"),
        Rule("stem.layers.0.norm.stats.{p}", "stem.norm1.{p}"),
        Rule("stem.layers.1.conv.{p}", "stem.conv2.{p}"),
        Rule("backbone.merges.{i}.shortcut.{p}", "stages.{i}.blocks.0.conv.shortcut.expand.{p}", conv(1, 1)),
        *bottleneck("backbone.merges.{i}", "stages.{i}.blocks.0.conv"),
        *bottleneck("backbone.stages.{i+1}.{3*j+2}.mixer", "stages.{i}.blocks.{j+1}.conv"),
        *attention("backbone.stages.{i+1}.{3*j}", "stages.{i}.blocks.{j}.attn_block"),
        *attention("backbone.stages.{i+1}.{3*j+1}", "stages.{i}.blocks.{j}.attn_grid"),
        Rule("head.norm.{p}", "head.norm.{p}"),
        Rule("head.hidden.{p}", "head.pre_logits.fc.{p}"),
        Rule("head.out.{p}", "head.fc.{p}"),
    ),
}
