"""What a user wants to know while a run goes: speed, waiting, memory, time left; also for Prometheus."""

import logging
import time
from collections.abc import Mapping
from typing import Any, Final

from torch import Tensor, nn

log = logging.getLogger("rayloom")

# Prometheus has each as ray_rayloom_train_<name>, by way of Ray; docs/guide/train.md lists them.
GAUGES: Final = {
    "step": "optimizer steps done",
    "loss": "loss of the last step",
    "learning_rate": "peak rate of the last step",
    "samples_s": "samples a second, of all workers",
    "tokens_s": "tokens after the stem a second, of all workers",
    "mfu": "model FLOPs a second over what the devices could do in matrix products",
    "data_wait": "share of a step spent waiting for data",
    "memory_bytes": "memory of the first worker; of its GPU where it has one",
    "eta_s": "seconds until the last step at the present speed",
}
SMOOTHING: Final = 0.1  # weight of the newest step in the time that the rest is foretold by


class Meter:
    """Times one worker's steps: `begin` marks a step's start, `data` its batch, `end` gives its numbers."""

    def __init__(self, task: nn.Module, *, workers: int, device: Any) -> None:
        self._workers, self._device = workers, device
        self._tokens = 0
        self._spared_s = 0.0
        self.flops: float | None = None  # of one sample; 0: not to be counted
        self._step_s: float | None = None
        self._gauges: dict[str, Any] = {}
        stem = getattr(getattr(task, "model", None), "stem", None)
        if stem is not None:
            stem.register_forward_hook(self._count)
        self.begin()

    def _count(self, stem: nn.Module, arguments: Any, output: tuple[Tensor, Any]) -> None:
        self._tokens += output[0].shape[0] * output[0].shape[1]

    def begin(self) -> None:
        """A step begins, with the wait for its batch."""
        self._tokens, self._spared_s, self._began = 0, 0.0, time.perf_counter()

    def data(self) -> None:
        """The batch is there."""
        self._waited = time.perf_counter() - self._began

    def know(
        self, spec: Mapping[str, Any], batch: Mapping[str, Any], precision: str, task: int = 0
    ) -> dict[str, Any]:
        """Learn what a sample costs and what the device can do; the time that this takes is of no step."""
        from jobs.utilisation import peak_flops, sample_flops

        began = time.perf_counter()
        self.peak, source = peak_flops(self._device, precision)
        try:
            self.flops = sample_flops(spec, batch, task)
        except RuntimeError as e:  # what a kernel of the device can do may be wanting on a CPU
            log.warning("operations of the model could not be counted, so there is no mfu: %s", e)
            self.flops = 0.0
        self._spared_s = time.perf_counter() - began
        return {"sample_flops": self.flops, "peak_flops": self.peak, "peak_from": source}

    def end(self, *, samples: int, left: int) -> dict[str, float]:
        """Numbers of the step that ends now, after `samples` of all workers, with `left` steps to go."""
        spent = time.perf_counter() - self._began - self._spared_s
        old = spent if self._step_s is None else self._step_s
        self._step_s = old + SMOOTHING * (spent - old)
        return {
            "samples_s": samples / spent,
            "tokens_s": self._tokens * self._workers / spent,
            **(
                {}
                if self.flops is None
                else {"mfu": self.flops * samples / spent / (self.peak * self._workers)}
            ),
            "data_wait": self._waited / spent,
            "memory_bytes": float(self._memory()),
            "eta_s": left * self._step_s,
        }

    def _memory(self) -> int:
        if self._device.type == "cuda":
            import torch

            return torch.cuda.max_memory_allocated(self._device)
        import psutil

        return int(psutil.Process().memory_info().rss)

    def publish(self, facts: Mapping[str, Any]) -> None:
        """Hand the numbers to Ray, whose agents serve them to Prometheus; nothing happens outside of Ray."""
        import ray

        if not ray.is_initialized():
            return
        from ray.util.metrics import Gauge

        for name, text in GAUGES.items():
            if name not in self._gauges:
                self._gauges[name] = Gauge(f"rayloom_train_{name}", description=text)
            if facts.get(name) is not None:
                self._gauges[name].set(float(facts[name]))
