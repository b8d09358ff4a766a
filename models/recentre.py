"""Turn a Pre-LN transformer into its equal Pre-RMSNorm and Pre-CRMSNorm forms."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from models.backbones.isotropic import Isotropic
from models.channels.mlp import Mlp
from models.heads.classification import ClassificationHead
from models.mixers.attention import GlobalAttention
from models.model import Model
from models.norms.base import Norm
from models.norms.crms import CompressedRMSNorm
from models.norms.layer import LayerNorm
from models.norms.rms import RMSNorm
from models.registry import suggest

FORMS: dict[str, Callable[..., Norm]] = {"layer": LayerNorm, "rms": RMSNorm, "crms": CompressedRMSNorm}


class ZeroMean(nn.Module):
    """What is written to the stream, without its mean over the channels; `drop`: nor the last of them."""

    def __init__(self, axis: int, *, drop: bool) -> None:
        super().__init__()
        self.axis, self.drop = axis, drop

    def forward(self, x: Tensor) -> Tensor:
        x = x - x.mean(self.axis, keepdim=True)
        return x.narrow(self.axis, 0, x.shape[self.axis] - 1) if self.drop else x


class FromShort(nn.Module):
    """A map of d channels, as one of d - 1 of a token of zero mean: (o, d) -> (o, d - 1)."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight[:, :-1] - weight[:, -1:]


class Read(NamedTuple):
    """A norm, by the module that holds it and its name there, and the linear map that reads it."""

    owner: nn.Module
    name: str
    reader: nn.Linear


def recentre(model: Model, form: str) -> Model:
    """The model with norms of `form`, "layer", "rms" or "crms", changed in place; all three say the same.

    First the norms' weights and biases move into the maps that read them. Then, but for "layer", all that
    writes to the stream (patch map, positions, class token, output maps) loses its mean, by parametrisation:
    the parameters stay those of the "layer" form, so that training is the same, too. In the "crms" form the
    stream has d - 1 channels. Takes ViTs: isotropic, attention and MLP, norms before the branches.
    Paper: Jiang et al., 2023, arXiv:2305.14858, sec. 3 and algorithm 1.
    """
    if form not in FORMS:
        raise LookupError(f"no form {form!r} of norms; did you mean one of {suggest(form, FORMS)}?")
    reads, writers = list(find_reads(model)), list(find_writers(model))
    for owner, name, reader in reads:
        norm = getattr(owner, name)
        fold(norm, reader)
        setattr(owner, name, FORMS[form](norm.dim - (form == "crms"), eps=norm.eps, affine=False))
        if form == "crms":
            parametrize.register_parametrization(reader, "weight", FromShort(), unsafe=True)
    if form != "layer":
        for module, name, axis in writers:
            rule = ZeroMean(axis, drop=form == "crms")
            parametrize.register_parametrization(module, name, rule, unsafe=True)
    if form == "crms":
        model.backbone.dims = (model.backbone.dims[0] - 1,)
    return model


@torch.no_grad()
def fold(norm: LayerNorm, reader: nn.Linear) -> None:
    """Move the weight and bias of a norm into the map that reads it."""
    if norm.weight is None or norm.bias is None:
        return
    if reader.bias is None:
        raise ValueError("a map that reads a norm with a bias needs a bias itself to be recentred")
    reader.bias.add_(reader.weight @ norm.bias)
    reader.weight.mul_(norm.weight)


def find_reads(model: Model) -> Iterator[Read]:
    """Every norm of the stream and its reader; ValueError for a model that is no Pre-LN ViT."""
    backbone, head = model.backbone, model.head
    if not isinstance(backbone, Isotropic) or not isinstance(backbone.norm, LayerNorm):
        raise ValueError(f"only an isotropic backbone with a layer norm can be recentred, got {backbone}")
    if (
        not isinstance(head, ClassificationHead)
        or not isinstance(head.out, nn.Linear)
        or head.norm is not None
    ):
        raise ValueError("only a model whose last norm a linear classifier reads can be recentred")
    for block in backbone.blocks:
        mixer, channel = block.mixer, block.channel
        plain = isinstance(mixer, GlobalAttention) and isinstance(channel, Mlp) and block.order == "pre"
        norms = isinstance(block.norm1, LayerNorm) and isinstance(block.norm2, LayerNorm)
        if not (plain and norms) or block.scale1 is not None or block.position is not None:
            raise ValueError("only blocks of attention and MLP, each after a layer norm, can be recentred")
        yield Read(block, "norm1", mixer.attention.qkv)
        yield Read(block, "norm2", channel.up)
    yield Read(backbone, "norm", head.hidden or head.out)


def find_writers(model: Model) -> Iterator[tuple[nn.Module, str, int]]:
    """Every parameter that writes to the stream: its module, its name, and which axis is the stream's."""
    linears = [model.stem.project]
    for block in model.backbone.blocks:  # type: ignore[union-attr]
        linears += [block.mixer.attention.out, block.channel.down]
    position = model.backbone.position
    table = getattr(position, "table", None)
    if table is not None:
        yield position, "table", -1  # type: ignore[misc]
    elif position is not None:
        linears.append(position.project)
    if getattr(model.backbone, "cls", None) is not None:
        yield model.backbone, "cls", -1
    for linear in linears:
        if not isinstance(linear, nn.Linear):
            raise ValueError(f"only linear maps can be recentred, got {linear}")
        yield linear, "weight", 0
        if linear.bias is not None:
            yield linear, "bias", 0
