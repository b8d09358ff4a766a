"""Hide some tokens, predict their raw values from the rest."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from models.heads.reconstruction import ReconstructionHead
from models.layout import Layout, Mask
from models.model import Model
from models.objectives.base import OBJECTIVES, Batch, Objective, mean_where


@OBJECTIVES.register
class Masked(Objective):
    """Mean squared error of the hidden tokens' values; `mask_ratio` of the real tokens are hidden.

    In training the choice is random (`generator`, or torch's own); in eval it is a function of `seed` and of
    the number of tokens alone, the same for every sample, so that a prediction does not depend on its batch.
    With `band_ratio`, whole bands of a cube are hidden, and `mask_ratio` of its places in all bands.
    Paper: Xie et al., 2021, arXiv:2111.09886; bands and places by themselves: Si et al., 2025,
    arXiv:2503.12843, sec. 3.4. Departs from it: squared instead of absolute error.
    """

    head = "reconstruction"

    def __init__(
        self,
        model: Model,
        inputs: Mapping[str, str],
        *,
        mask_ratio: float = 0.6,
        band_ratio: float | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(model, inputs)
        if not 0 < mask_ratio < 1:
            raise ValueError(f"mask_ratio must be between 0 and 1, got {mask_ratio}")
        if band_ratio is not None and not 0 <= band_ratio < 1:
            raise ValueError(f"band_ratio must be at least 0 and below 1, got {band_ratio}")
        self.mask_ratio, self.band_ratio, self.seed = mask_ratio, band_ratio, seed
        self.generator: torch.Generator | None = None  # CPU

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        values, target, hidden, seen = self._run(batch)
        error = mean_where((values - target).square().mean(-1), hidden)
        usual = (target * seen[..., None]).sum(1, keepdim=True) / seen.sum(1).clamp(min=1)[:, None, None]
        baseline = mean_where((usual - target).square().mean(-1), hidden)
        return {"prediction": values, "loss": error.nanmean(), "error": error, "baseline": baseline}

    @torch.no_grad()
    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """The reconstruction has the shape of x: hidden tokens as predicted, the others as they are."""
        values, target, hidden, _ = self._run(batch)
        whole = torch.where(hidden[..., None], values, target)
        x = batch[self.inputs["x"]]
        return {
            "masked_mse": mean_where((values - target).square().mean(-1), hidden),
            "reconstruction": self.model.stem.join(whole, self.model.size(x)),
        }

    @torch.no_grad()
    def metrics(self, outputs: Mapping[str, Tensor], batch: Batch) -> dict[str, Float[Tensor, " b"]]:
        """The baseline answers every hidden token with the mean of the tokens seen."""
        return {"masked_mse": outputs["error"], "baseline_mse": outputs["baseline"]}

    def _run(self, batch: Batch) -> tuple[Tensor, Tensor, Mask, Mask]:
        """Values (b, n, v) predicted and true, tokens hidden and tokens seen (b, n)."""
        arguments = self.arguments(batch)
        model, head = self.model, self.model.head
        assert isinstance(head, ReconstructionHead)
        tokens, layout = model.embed(**arguments)
        hidden, seen = self.choose(tokens, layout)
        size = model.size(arguments["x"])
        values = head(model.backbone(head.hide(tokens, hidden), layout), size)
        return values.float(), model.stem.cut(arguments["x"]).float(), hidden, seen

    def choose(self, tokens: Tensor, layout: Layout) -> tuple[Mask, Mask]:
        """Which real tokens to hide, and which to leave; both (b, n)."""
        real = layout.mask
        if real is None:
            real = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        if self.band_ratio is None:
            hidden = real & self._some(real, self.mask_ratio)
        else:
            raster = real.unflatten(1, (layout.need_grid(3, "band_ratio")[0], -1))  # (b, c, h w)
            places = self._some(raster.any(1), self.mask_ratio)
            bands = self._some(raster.any(2), self.band_ratio, least=0)
            hidden = real & (places[:, None] | bands[..., None]).flatten(1)
        return hidden, real & ~hidden

    def _some(self, real: Mask, ratio: float, *, least: int = 1) -> Mask:
        """A share of the real ones, drawn."""
        b, n = real.shape
        if self.training:
            noise = torch.rand(b, n, generator=self.generator)
        else:
            noise = torch.rand(1, n, generator=torch.Generator().manual_seed(self.seed)).expand(b, -1)
        rank = noise.to(real.device).masked_fill(~real, 2.0).argsort(1).argsort(1)  # padding last
        return rank < (real.sum(1, keepdim=True) * ratio).round().clamp(min=least)
