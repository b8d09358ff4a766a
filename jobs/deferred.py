"""A module whose weights are made later, one after another: the bits that it would have had at once.

For a model that is divided among processes, none of which need have room for all of it. It is built on the
meta device, where every call that makes or changes a tensor is written down. Doing the calls again, in order
and with memory, draws the same random numbers; a weight is handed over, to be cut to a process's part, as
soon as no later call names it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

PASSED_OVER: Final = ("trunc_normal_", "orthogonal_", "dirac_", "sparse_")
FILLING: Final = frozenset(
    ("uniform_", "normal_", "fill_", "zero_", "copy_", "trunc_normal_", "orthogonal_", "dirac_", "sparse_")
)


class _Call(NamedTuple):
    """Tensors of the meta device stand for others; those with memory are constants."""

    function: Any
    arguments: tuple[Any, ...]
    options: Mapping[str, Any]
    result: Any


class _Notes(TorchDispatchMode):
    """Writes down every call that meets the meta device."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[_Call] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = kwargs or {}
        if not any(_is_meta(value) for value in tree_leaves((args, options))):
            return func(*args, **options)
        result = func(*tree_map(_shape, args), **tree_map(_shape, options))
        if not func.is_view:  # which only gives a memory another shape
            self.calls.append(_Call(func, args, options, result))
        return result


class _Constants(TorchFunctionMode):
    """Numbers given as such would be lost on the meta device: they go there by a call that is noted."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = kwargs or {}
        if func in (torch.tensor, torch.as_tensor) and options.get("device") is None:
            return func(*args, **{**options, "device": "cpu"}).to("meta")
        return func(*args, **options)


@contextmanager
def _starts(notes: _Notes) -> Iterator[None]:
    """Torch's ways to fill a tensor that leave one of the meta device alone are noted as one call each."""
    originals = {name: getattr(nn.init, name) for name in PASSED_OVER}

    def noted(original: Any) -> Any:
        def fill(tensor: Tensor, *args: Any, **options: Any) -> Tensor:
            if not tensor.is_meta:
                return cast(Tensor, original(tensor, *args, **options))
            notes.calls.append(_Call(original, (tensor.detach(), *args), options, None))
            return tensor

        return fill

    try:
        for name, original in originals.items():
            setattr(nn.init, name, noted(original))
        yield
    finally:
        for name, original in originals.items():
            setattr(nn.init, name, original)


class Deferred:
    """`module` as `build` makes it, on the meta device, and how its weights are made.

    RuntimeError where `build` draws random numbers into memory: their order could not be kept.
    """

    def __init__(self, build: Callable[[], nn.Module]) -> None:
        before = torch.get_rng_state()
        with torch.device("meta"), (notes := _Notes()), _Constants(), _starts(notes):
            module = build()
        if not torch.equal(before, torch.get_rng_state()):
            raise RuntimeError("a model that draws random numbers on the cpu cannot be made in parts")
        self._calls = notes.calls
        self._tensors = dict(_tensors(module))  # as they were built: `module` may get others
        self.module = module.to("meta")

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Every parameter and buffer by name, whole, each once; the caller drops it before the next one.

        Draws what `build` would have drawn from torch's random numbers. Only once: the notes are used up.
        """
        wanted: dict[int, list[str]] = {}
        for name, tensor in self._tensors.items():
            if tensor.is_meta:
                wanted.setdefault(_memory(tensor), []).append(name)
            else:
                yield name, tensor
        made: dict[int, Tensor] = {}
        for call, (done, stale) in zip(self._calls, _ends(self._calls), strict=True):
            _again(call, made)
            for memory in stale:
                del made[memory]
            for memory in done:
                whole = made.pop(memory)
                for name in wanted.get(memory, ()):
                    yield name, _like(whole, self._tensors[name].detach())
                del whole


def _ends(calls: Sequence[_Call]) -> list[tuple[set[int], set[int]]]:
    """For each call, of the memories that it names: those that no later one does, and those filled next.

    What lies in the latter is not needed, only drawn.
    """
    fills: dict[int, bool] = {}  # of a memory that a later call names, whether the first of them fills it
    found = []
    for call in reversed(calls):
        named = {_memory(tensor) for tensor in _placeholders(call)}
        found.append((named - fills.keys(), {memory for memory in named if fills.get(memory)}))
        fills |= dict.fromkeys(named, False)
        if (filled := _filled(call)) is not None:
            fills[filled] = True
    return found[::-1]


def _filled(call: _Call) -> int | None:
    """The memory of which a call changes every byte, whatever was there."""
    if getattr(call.function, "__name__", "").removesuffix(".default").removesuffix(".Scalar") not in FILLING:
        return None
    first, *others = call.arguments
    whole = first.untyped_storage().nbytes() == first.numel() * first.itemsize
    read = {
        _memory(tensor) for tensor in tree_leaves(others) if _is_meta(tensor) and isinstance(tensor, Tensor)
    }
    return _memory(first) if whole and _memory(first) not in read else None


def _again(call: _Call, made: dict[int, Tensor]) -> None:
    """Do a call with memory, which is taken where there is none yet, and kept in `made`."""

    def real(value: Any) -> Any:
        if isinstance(value, Tensor) and value.is_meta:
            memory = _memory(value)
            if memory not in made:
                size = value.untyped_storage().nbytes() // value.itemsize
                made[memory] = torch.empty(size, dtype=value.dtype)
            return _like(made[memory], value)
        return torch.device("cpu") if _is_meta(value) else value

    with torch.no_grad():
        result = call.function(*tree_map(real, call.arguments), **tree_map(real, call.options))
    for stand_in, tensor in zip(tree_leaves(call.result), tree_leaves(result), strict=False):
        if isinstance(stand_in, Tensor):
            made.setdefault(_memory(stand_in), tensor)


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _is_meta(value: Any) -> bool:
    return (isinstance(value, torch.device) and value.type == "meta") or (
        isinstance(value, Tensor) and value.is_meta
    )


def _shape(value: Any) -> Any:
    return value.to("meta") if isinstance(value, Tensor) else value


def _placeholders(call: _Call) -> list[Tensor]:
    leaves = tree_leaves((call.arguments, call.options, call.result))
    return [value for value in leaves if isinstance(value, Tensor) and value.is_meta]


def _memory(tensor: Tensor) -> int:
    """Which memory it stands for; the notes keep it, so nothing else gets its number."""
    return id(tensor.untyped_storage())


def _like(whole: Tensor, stand_in: Tensor) -> Tensor:
    """The part of a memory that a tensor looks at."""
    return whole.as_strided(stand_in.shape, stand_in.stride(), stand_in.storage_offset())
