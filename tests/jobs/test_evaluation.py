"""What is measured over all held-out samples at once, and which measurement is the best."""

import numpy as np
import pytest

from jobs.evaluation import agreement, better


def test_agreement_equals_its_definitions_computed_from_single_labels() -> None:
    rng = np.random.default_rng(0)
    true, said = rng.integers(0, 3, 500), rng.integers(0, 4, 500)  # class 3 never occurs
    said = np.where(rng.random(500) < 0.6, true, said)
    table = np.zeros((4, 4))
    np.add.at(table, (true, said), 1)
    found = agreement(table.flatten().tolist())
    overall = (true == said).mean()
    chance = sum((true == c).mean() * (said == c).mean() for c in range(4))
    assert found["overall_accuracy"] == pytest.approx(overall)
    assert found["average_accuracy"] == pytest.approx(
        np.mean([(said[true == c] == c).mean() for c in range(3)])
    )
    assert found["kappa"] == pytest.approx((overall - chance) / (1 - chance))
    ious = [((true == c) & (said == c)).sum() / ((true == c) | (said == c)).sum() for c in range(3)]
    assert found["mean_iou"] == pytest.approx(np.mean(ious))


def test_accuracies_are_better_when_higher_and_errors_when_lower() -> None:
    first = better({"accuracy": 0.5}, None, metric=None)
    assert first == {"metric": "accuracy", "value": 0.5}
    assert better({"accuracy": 0.6}, first, metric=None) == {"metric": "accuracy", "value": 0.6}
    assert better({"accuracy": 0.5}, first, metric=None) is None
    error = better({"masked_mse": 2.0, "baseline_mse": 3.0}, None, metric=None)
    assert better({"masked_mse": 1.0}, error, metric=None) == {"metric": "masked_mse", "value": 1.0}
    assert better({"masked_mse": 3.0}, error, metric=None) is None
    assert better({"masked_mse": float("nan")}, None, metric=None) is None


def test_a_metric_that_is_not_measured_is_refused_with_those_that_are() -> None:
    with pytest.raises(LookupError, match="'kappa' is not measured; there are accuracy"):
        better({"accuracy": 0.5}, None, metric="kappa")
