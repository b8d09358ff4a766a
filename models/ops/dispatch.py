"""One op, several backends: chosen by facts that are known before anything runs, and able to say why."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Facts(NamedTuple):
    """What a choice may depend on. All of it is static under torch.compile: no graph break."""

    device: str  # "cpu", "cuda"
    dtype: torch.dtype
    head_dim: int
    queries: int  # that share their keys: tokens of a window, or of the sequence
    keys: int  # that each query sees
    grad: bool  # something here is trained
    bias: bool
    bias_grad: bool
    masked: bool
    padded: bool = False  # tokens beyond the raster take part
    special: str = ""  # what about these arguments stands in some backend's way


class Backend(NamedTuple):
    """One way to compute the op. `refuses` gives the reason why it cannot serve some facts, else None."""

    name: str
    run: Callable[..., Tensor]
    refuses: Callable[[Facts], str | None]


recorded: set[str] | None = None


@contextmanager
def record() -> Iterator[set[str]]:
    """Collect "op:backend" of every call inside."""
    global recorded
    before, recorded = recorded, set()
    try:
        yield recorded
    finally:
        recorded = before


class Op:
    """A function with twins: `op(...)` takes the first backend that does not refuse, or the pinned one.

    `facts(...)` takes the op's own arguments. Backends stand in the order of preference; the last one must
    serve everything. All of them compute the same function: the accuracy rule of the tests holds for each.
    """

    def __init__(self, name: str, facts: Callable[..., Facts], backends: Sequence[Backend]) -> None:
        self.name, self.facts, self.backends = name, facts, tuple(backends)
        self.pins: dict[str, str] = {}
        self.forced: str | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        backend = self.choose(self.facts(*args, **kwargs))
        if recorded is not None:
            recorded.add(f"{self.name}:{backend.name}")
        return backend.run(*args, **kwargs)

    def choose(self, facts: Facts) -> Backend:
        """The backend that serves these facts."""
        wanted = self.forced or (self.pins.get(key(facts)) if self.pins else None)
        for backend in self.backends:
            if wanted is not None and backend.name != wanted:
                continue
            reason = backend.refuses(facts)
            if reason is None:
                return backend
            if wanted is not None:
                raise ValueError(f"{self.name}: backend {wanted!r} was asked for, but {reason}")
        raise LookupError(
            f"{self.name} has no backend {wanted!r}; there are {[b.name for b in self.backends]}"
        )

    def explain(self, *args: Any, **kwargs: Any) -> str:
        """A line for each backend: taken, refused and why, or not needed."""
        facts = self.facts(*args, **kwargs)
        taken = self.choose(facts).name
        lines = [f"{self.name} for {key(facts)}"]
        for backend in self.backends:
            reason = backend.refuses(facts)
            state = (
                "taken" if backend.name == taken else f"refused: {reason}" if reason else "able, not taken"
            )
            lines.append(f"  {backend.name:<10} {state}")
        return "\n".join(lines)

    @contextmanager
    def force(self, name: str) -> Iterator[None]:
        """Take this backend and no other inside; ValueError with its reason where it cannot serve."""
        before, self.forced = self.forced, name
        try:
            yield
        finally:
            self.forced = before

    def autotune(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Time every able backend on these arguments, pin the fastest, and say so as JSON-able data.

        With anything to train among the arguments, forward and backward are timed together.
        """
        facts = self.facts(*args, **kwargs)
        seconds = {
            backend.name: clock(lambda run=backend.run: run(*args, **kwargs), facts.grad)  # type: ignore[misc]
            for backend in self.backends
            if backend.refuses(facts) is None
        }
        self.pins[key(facts)] = min(seconds, key=seconds.__getitem__)
        place = torch.cuda.get_device_name() if facts.device == "cuda" else facts.device
        return {
            "op": self.name,
            "facts": key(facts),
            "backend": self.pins[key(facts)],
            "seconds": seconds,
            "torch": torch.__version__,
            "device": place,
        }

    def pin(self, choices: Sequence[dict[str, Any]]) -> None:
        """Take over what `autotune` found earlier, as far as it is about this op and this torch."""
        for choice in choices:
            if choice["op"] == self.name and choice["torch"] == torch.__version__:
                self.pins[choice["facts"]] = choice["backend"]


def key(facts: Facts) -> str:
    """Facts as one line, which JSON can hold."""
    return " ".join(f"{name}={value}" for name, value in zip(facts._fields, facts, strict=True))


def clock(call: Callable[[], Tensor], grad: bool, repeats: int = 5) -> float:
    """Median seconds of one call, with its backward pass where something is trained."""

    def once() -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        began = time.perf_counter()
        y = call()
        if grad:
            y.sum().backward()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter() - began

    once()
    return sorted(once() for _ in range(repeats))[repeats // 2]
