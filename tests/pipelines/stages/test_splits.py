import numpy as np

from pipelines.stages.splits import TEST, TRAIN, VAL, Strata, split_by_draw

SHARES = {"val": 0.2, "test": 0.1}


def test_shares_are_met_on_average_by_hash() -> None:
    codes = split_by_draw(np.random.default_rng(0).integers(0, 2**64, 20_000, np.uint64), SHARES)
    assert abs((codes == VAL).mean() - 0.2) < 0.01
    assert abs((codes == TEST).mean() - 0.1) < 0.01
    assert (split_by_draw(np.array([0, 2**64 - 1], np.uint64), {"val": 0, "test": 0}) == TRAIN).all()


def test_every_class_has_its_shares_to_within_a_scene_however_it_comes_in_parts() -> None:
    rng = np.random.default_rng(1)
    classes = rng.choice(4, 500, p=[0.9, 0.05, 0.04, 0.01])
    counts = rng.integers(1, 8, 500)
    totals = np.bincount(classes, counts, 4).astype(np.int64)
    whole = Strata(totals, SHARES).assign(classes, counts)
    parts = Strata(totals, SHARES)
    again = [parts.assign(classes[a:b], counts[a:b]) for a, b in [(0, 3), (3, 3), (3, 250), (250, 500)]]
    assert (np.concatenate(again) == whole).all()
    for label, total in enumerate(totals):
        for code, share in ((VAL, 0.2), (TEST, 0.1)):
            got = counts[(classes == label) & (whole == code)].sum()
            assert abs(got - share * total) <= 8
