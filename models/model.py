"""Stem, backbone and head, put together."""

from torch import Tensor, nn

from models.backbones.base import Backbone
from models.heads.base import Head
from models.layout import Layout, Mask, Stage, Tokens
from models.necks.base import Neck, on_stem
from models.stems.base import Side, Stem


class Model(nn.Module):
    """model(x, coords=, wavelengths=, times=, mask=) -> what its head says.

    x is (b, c, h, w) for images and cubes, (b, c, t, h, w) for clips, (b, n, f) for points. coords (b, n, 3),
    wavelengths (b, c) nm, times (b, t) s; mask (b, n) is true for real tokens. Dense heads give (b, k, h, w),
    (b, k, t, h, w) or (b, n, k).

    Linear maps start as `start` says; a part with a method `restart()` then sets its own weights.
    """

    def __init__(
        self,
        stem: Stem,
        backbone: Backbone,
        head: Head,
        *,
        neck: Neck | None = None,
        init_std: float | None = None,
    ) -> None:
        super().__init__()
        self.stem, self.backbone, self.neck, self.head = stem, backbone, neck, head
        for module in self.modules():
            if isinstance(module, nn.Linear):
                start(module, init_std)
        for module in self.modules():
            if callable(restart := getattr(module, "restart", None)):
                restart()

    def embed(
        self,
        x: Tensor,
        *,
        coords: Tensor | None = None,
        wavelengths: Tensor | None = None,
        times: Tensor | None = None,
        mask: Mask | None = None,
    ) -> tuple[Tokens, Layout]:
        """The stem's tokens, before any position is added."""
        return self.stem(x, Side(coords, wavelengths, times, mask))

    def features(
        self,
        x: Tensor,
        *,
        coords: Tensor | None = None,
        wavelengths: Tensor | None = None,
        times: Tensor | None = None,
        mask: Mask | None = None,
    ) -> list[Stage]:
        """Tokens after every stage; `stage.map()` gives (b, d, h, w), strides 4, 8, 16, 32 in a pyramid.

        A backbone of one stage has these strides with a neck: `neck="simple_pyramid"` of `create_model`.
        """
        tokens, layout = self.embed(x, coords=coords, wavelengths=wavelengths, times=times, mask=mask)
        stages = self.backbone(tokens, layout)
        return stages if self.neck is None else self.neck(stages)

    def forward(
        self,
        x: Tensor,
        *,
        coords: Tensor | None = None,
        wavelengths: Tensor | None = None,
        times: Tensor | None = None,
        mask: Mask | None = None,
    ) -> Tensor:
        stages = self.features(x, coords=coords, wavelengths=wavelengths, times=times, mask=mask)
        size = self.size(x)
        y = self.head(stages, size)
        if self.neck is not None and self.head.per == "cell":
            finest, finer = stages[0].layout, self.neck.finer
            y = on_stem(y, finest.grid or (), finer, self.stem.patch // finer)
        return self.stem.answers(y, size) if self.head.per == "cell" else y

    def size(self, x: Tensor) -> tuple[int, ...]:
        """Axes of x that tokens tile: all but the batch, and but the channels where x has some."""
        return tuple(x.shape[-self.stem.axes :])


def start(linear: nn.Linear, std: float | None) -> None:
    """Initial weights: truncated normal of `std`, or Glorot's uniform when it is None; biases zero."""
    if std is None:
        nn.init.xavier_uniform_(linear.weight)
    else:
        nn.init.trunc_normal_(linear.weight, std=std)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)
