"""Where the fields of a batch lie."""

import numpy as np

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
