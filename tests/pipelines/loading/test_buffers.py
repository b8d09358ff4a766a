"""Where the fields of a batch lie."""

import numpy as np
import pytest
import torch

from pipelines.loading.buffers import Assembly, Pool


def test_a_sample_alone_is_its_batch_without_a_copy() -> None:
    field = np.arange(12.0).reshape(3, 4)
    (alone := Assembly(1)).put(0, {"x": field, "key": "a", "label": np.int64(3)})
    batch = alone.finish()
    assert batch["x"].shape == (1, 3, 4)
    assert np.shares_memory(batch["x"].numpy(), field)
    assert batch["label"].tolist() == [3]
    (two := Assembly(2)).put(0, {"x": field})
    two.put(1, {"x": field})
    assert not np.shares_memory(two.finish()["x"].numpy(), field)


def test_what_others_hold_or_torch_cannot_take_is_copied() -> None:
    field = np.arange(12.0).reshape(3, 4)
    (held := field.view()).flags.writeable = False
    for value in (held, field.T):
        (alone := Assembly(1)).put(0, {"x": value})
        batch = alone.finish()
        assert not np.shares_memory(batch["x"].numpy(), field)
        assert (batch["x"][0].numpy() == value).all()
    assert Pool().lends(field)
    assert not Pool(pinned=True).lends(field)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="memory is pinned for a GPU")
def test_pinned_memory_is_not_filled_again_while_a_copy_to_the_gpu_reads_it() -> None:
    pool, there = Pool(pinned=True), []
    for number in range(4):
        assembly = Assembly(2, pool)
        for at in range(2):
            assembly.put(at, {"x": np.full(2**20, number)})
        batch = assembly.finish()
        assert batch["x"].is_pinned()
        torch.cuda._sleep(100_000_000)  # cycles for which the copy has to wait
        there.append(batch["x"][1:].to("cuda", non_blocking=True))
        del assembly, batch
    torch.cuda.synchronize()
    assert [int(copy.min()) for copy in there] == [int(copy.max()) for copy in there] == [0, 1, 2, 3]
