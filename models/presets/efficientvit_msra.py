"""EfficientViT: Memory Efficient Vision Transformer with Cascaded Group Attention.

Paper: Liu et al., 2023, arXiv:2305.07027. Sizes: table 1 and the authors' code, for 224 pixels, where the
last stage is one window of 4. A block is a sandwich: convolution and MLP, attention, convolution and MLP; so
is each merge, whose outer halves are blocks of the stages beside it. Norms are batch norms behind maps, which
`models.layers.convolution.fuse` folds into them. Windows see padding, as in the authors' code.
Departs from it: norms at the end of branches start at one, not at zero.
"""

from models.imports import Rule, conv

PART = "backbone"

CONV = {"stride": 2, "bias": False, "norm": "batch"}
STEM = tuple({**CONV, "width": width, "act": "relu"} for width in (1 / 8, 1 / 4, 1 / 2))
BREAD = {"name": "depthwise", "kernel": 3, "bias": False, "norm": "batch"}


def sandwiches(depths: tuple[int, ...], windows: tuple[int, ...], **options: object) -> tuple[object, ...]:
    """Mixers of each stage: `depths` sandwiches, and a slice of bread on the side of each merge."""
    stages = []
    for i, (depth, window) in enumerate(zip(depths, windows, strict=True)):
        filling = {"name": "cascaded", "window": window, **options, "block": {"channel": None}}
        before, after = i > 0, i < len(depths) - 1
        stages.append((BREAD,) * before + (BREAD, filling, BREAD) * depth + (BREAD,) * after)
    return tuple(stages)


PRESETS = {
    "efficientvit_msra_m0": {
        "doc": "EfficientViT-M0; parameters counted in the authors' code (the paper prints 2.3 M).",
        "millions": 2.349,
        "modality": "image",
        "stem": "conv",
        "stem.layers": (*STEM, CONV),
        "backbone": "pyramid",
        "backbone.dims": (64, 128, 192),
        "backbone.depths": (4, 8, 10),  # 1, 2, 3 sandwiches of the paper's
        "backbone.merge": "inverted",
        "backbone.norm": None,
        "block.norm": None,
        "block.channel": "normed_mlp",
        "mixers": sandwiches((1, 2, 3), (7, 7, 4), kernels=(5, 5, 5, 5), hide_padding=False),
        "head": "classification",
        "head.norm": "batch",
        "in_chans": 3,
        "num_outputs": 1000,
        "init_std": 0.02,
    },
    "efficientvit_msra_m4": {
        "base": "efficientvit_msra_m0",
        "doc": "EfficientViT-M4.",
        "millions": 8.804,
        "backbone.dims": (128, 256, 384),
        "mixers": sandwiches((1, 2, 3), (7, 7, 4), kernels=(7, 5, 3, 3), hide_padding=False),
    },
    "efficientvit_msra_nano": {
        "base": "efficientvit_msra_m0",
        "doc": "Ours, for images of 32-64 pixels: two convolutions before them.",
        "stem.layers": ({**CONV, "width": 0.5, "act": "relu"}, CONV),
        "backbone.dims": (32, 64, 96),
        "backbone.depths": (4, 5, 4),
        "mixers": sandwiches((1, 1, 1), (7, 7, 4)),
        "num_outputs": 10,
    },
}


def normed(ours: str, theirs: str) -> tuple[Rule, Rule]:
    """A map and the norm behind it."""
    return (
        Rule(f"{ours}.conv.{{p}}", f"{theirs}.conv.{{p}}"),
        Rule(f"{ours}.norm.stats.{{p}}", f"{theirs}.bn.{{p}}"),
    )


def bread(ours: str, convolution: str, mlp: str) -> tuple[Rule, ...]:
    """A block of convolution and MLP."""
    return (
        *normed(f"{ours}.mixer.conv", f"{convolution}.m"),
        *normed(f"{ours}.channel.up", f"{mlp}.m.pw1"),
        *normed(f"{ours}.channel.down", f"{mlp}.m.pw2"),
    )


def stage(i: int, last: int | None) -> tuple[Rule, ...]:
    """One stage, and the merge after it; `last` is its last block, a part of that merge there."""
    ours, theirs = f"backbone.stages.{i}", f"stages.{i}.blocks.{{j}}"
    first = 1 if i else 0
    merged, down = f"backbone.merges.{i}", f"stages.{i + 1}.downsample"
    rules = [
        *(bread(f"{ours}.0", f"stages.{i}.downsample.res2.0", f"stages.{i}.downsample.res2.1") if i else ()),
    ]
    if last is not None:
        rules += bread(f"{ours}.{last}", f"{down}.res1.0", f"{down}.res1.1")
        rules += [
            *normed(f"{merged}.expand", f"{down}.patchmerge.conv1"),
            *normed(f"{merged}.filter", f"{down}.patchmerge.conv2"),
            *normed(f"{merged}.shrink", f"{down}.patchmerge.conv3"),
            Rule(f"{merged}.squeeze.squeeze.{{p}}", f"{down}.patchmerge.se.fc1.{{p}}", conv(1, 1)),
            Rule(f"{merged}.squeeze.excite.{{p}}", f"{down}.patchmerge.se.fc2.{{p}}", conv(1, 1)),
        ]
    top, filling, bottom = (f"{ours}.{{3*j+{first + k}}}" for k in range(3))
    return (
        *rules,
        *bread(top, f"{theirs}.dw0", f"{theirs}.ffn0"),
        *bread(bottom, f"{theirs}.dw1", f"{theirs}.ffn1"),
        *normed(f"{filling}.mixer.qkv.{{h}}", f"{theirs}.mixer.m.attn.qkvs.{{h}}"),
        *normed(f"{filling}.mixer.near.{{h}}", f"{theirs}.mixer.m.attn.dws.{{h}}"),
        *normed(f"{filling}.mixer.out", f"{theirs}.mixer.m.attn.proj.1"),
        Rule(f"{filling}.mixer.bias", f"{theirs}.mixer.m.attn.attention_biases"),
    )


IMPORTS = {
    "timm": (
        *(rule for i in range(4) for rule in normed(f"stem.layers.{i}", f"patch_embed.conv{i + 1}")),
        *(rule for i, last in enumerate((3, 7, None)) for rule in stage(i, last)),
        Rule("head.norm.stats.{p}", "head.bn.{p}"),
        Rule("head.out.{p}", "head.linear.{p}"),
    ),
}
