"""Stem, backbone and head, put together."""

from torch import Tensor, nn

from models.backbones.base import Backbone
from models.heads.base import Head
from models.layout import Layout, Mask, Stage, Tokens
from models.stems.base import Side, Stem


class Model(nn.Module):
    """model(x, coords=, wavelengths=, times=, mask=) -> what its head says.

    x is (b, c, h, w) for images and cubes, (b, c, t, h, w) for clips, (b, n, f) for points. coords (b, n, 3),
    wavelengths (b, c) nm, times (b, t) s; mask (b, n) is true for real tokens. Dense heads give (b, k, h, w),
    (b, k, t, h, w) or (b, n, k).

    Linear maps start as `start` says; a part with a method `restart()` then sets its own weights.
    """

    def __init__(self, stem: Stem, backbone: Backbone, head: Head, *, init_std: float | None = None) -> None:
        super().__init__()
        self.stem, self.backbone, self.head = stem, backbone, head
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
        """Tokens after every stage; `stage.map()` gives (b, d, h, w), strides 4, 8, 16, 32 in a pyramid."""
        tokens, layout = self.embed(x, coords=coords, wavelengths=wavelengths, times=times, mask=mask)
        return self.backbone(tokens, layout)

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
