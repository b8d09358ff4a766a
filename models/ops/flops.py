"""Floating point operations of a call, counted, attention on CPUs included."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

aten = torch.ops.aten


def flash_on_cpu(q: Any, k: Any, v: Any, *_: Any, **__: Any) -> int:
    """Shapes (b, h, n, e), (b, h, m, e), (b, h, m, f): two products, which torch's own table leaves out."""
    (b, h, n, e), m, f = q, k[-2], v[-1]
    return int(2 * b * h * n * m * (e + f))


MORE = {aten._scaled_dot_product_flash_attention_for_cpu: flash_on_cpu}


def count_flops(call: Callable[[], Any]) -> int:
    """Matrix products, convolutions and attention of one call; elementwise work is not counted."""
    with FlopCounterMode(display=False, custom_mapping=MORE) as counter:
        call()
    return int(counter.get_total_flops())
