"""How many bytes of tensors live at a time, told by what torch makes and not by what the system gives."""

import weakref
from typing import Any

from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Living(TorchDispatchMode):
    """The most bytes of tensors made under it that lived at a time; of a divided one its own part."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes: dict[int, int] = {}
        self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, DTensor):
                tensor = tensor.to_local()
            if isinstance(tensor, Tensor) and not tensor.is_meta:
                memory = tensor.untyped_storage()
                if id(memory) not in self.bytes:
                    self.bytes[id(memory)] = memory.nbytes()
                    weakref.finalize(memory, self.bytes.pop, id(memory), None)
        self.most = max(self.most, sum(self.bytes.values()))
        return result
