import math

import pytest
import torch
import torch.nn.functional as F
from torch.nn.functional import normalize
from torch.testing import assert_close

from models import create_task
from models.objectives.base import Objective


def build(task: str, model: str = "window_nano", outputs: int = 3, **options: object) -> Objective:
    torch.manual_seed(0)
    inputs = {"x": "features", "coords": "points"} if model == "points_nano" else {"x": "image"}
    return create_task(task, model=model, inputs=inputs, num_outputs=outputs, **options)


def image(b: int = 4) -> dict[str, torch.Tensor]:
    return {"image": torch.randn(b, 3, 17, 20, generator=torch.Generator().manual_seed(0))}


@pytest.mark.parametrize("task", ["classification", "regression", "segmentation"])
def test_without_a_target_there_is_no_loss(task: str) -> None:
    assert set(build(task)(image())) == {"prediction"}


def test_a_missing_input_is_named() -> None:
    with pytest.raises(LookupError, match=r"the batch has no \['image'\]; it has \['picture'\]"):
        build("classification")({"picture": torch.zeros(1)})


def test_classification_is_cross_entropy_and_counts_right_labels() -> None:
    task, batch = build("classification"), image()
    logits = task(batch)["prediction"]
    batch["label"] = logits.argmax(-1)
    batch["label"][1] = (batch["label"][1] + 1) % 3
    out = task(batch)
    want = -torch.stack([logits.log_softmax(-1)[i, batch["label"][i]] for i in range(4)]).mean()
    assert_close(out["loss"], want)
    assert task.metrics(out, batch)["accuracy"].tolist() == [1, 0, 1, 1]


def test_directions_are_scored_by_angle_even_when_it_is_tiny() -> None:
    task = create_task("regression", model="light_nano", inputs={"x": "frames"}, num_outputs=3)
    batch = {"frames": torch.randn(2, 3, 4, 8, 8)}
    value = task(batch)["prediction"].detach()
    axis = normalize(torch.linalg.cross(value, torch.tensor([0.3, -0.5, 0.8]).expand_as(value)), dim=-1)
    for degrees in (0.01, 30.0, 90.0, 180.0):
        turn = math.radians(degrees)
        batch["light"] = math.cos(turn) * value + math.sin(turn) * torch.linalg.cross(axis, value)
        out = task(batch)
        assert_close(
            task.metrics(out, batch)["angular_error_deg"], torch.full((2,), degrees), atol=2e-3, rtol=0
        )
        assert out["loss"].item() == pytest.approx(1 - math.cos(turn), abs=1e-6)


def test_other_numbers_are_scored_by_squares() -> None:
    task, batch = build("regression", outputs=1, target="age"), image()
    batch["age"] = torch.tensor([1.0, 2, 3, 4])
    out = task(batch)
    assert_close(out["loss"], F.mse_loss(out["prediction"][:, 0], batch["age"]))
    assert_close(task.metrics(out, batch)["absolute_error"], (out["prediction"][:, 0] - batch["age"]).abs())
    batch["age"] = torch.zeros(4, 2)
    with pytest.raises(ValueError, match=r"must have the prediction's shape \(4, 1\), got \(4, 2\)"):
        task(batch)


def test_unlabelled_pixels_count_for_nothing() -> None:
    task, batch = build("segmentation"), image()
    right = task(batch)["prediction"].argmax(1)
    target = right.clone()
    target[:, :5] = (target[:, :5] + 1) % 3  # wrong
    target[:, 5:9] = -1
    target[3] = -1
    batch["segmentation"] = target
    out = task(batch)
    keep = target != -1
    want = F.cross_entropy(out["prediction"].movedim(1, -1)[keep], target[keep])
    assert_close(out["loss"], want)
    assert_close(task.metrics(out, batch)["pixel_accuracy"][:3], torch.full((3,), 8 / 13))
    assert task.metrics(out, batch)["pixel_accuracy"][3].isnan()


def test_pixels_that_are_each_a_token_are_judged_like_others() -> None:
    inputs = {"x": "cube", "wavelengths": "wavelengths"}
    task = create_task("segmentation", model="spectral_nano", inputs=inputs, num_outputs=3, patch=1, bands=2)
    batch = {"cube": torch.randn(2, 4, 5, 6), "wavelengths": torch.linspace(400, 700, 4).expand(2, -1)}
    logits = task(batch)["prediction"]
    assert logits.shape == (2, 3, 5, 6)
    batch["segmentation"] = logits.argmax(1)
    out = task(batch)
    assert task.metrics(out, batch)["pixel_accuracy"].tolist() == [1, 1]
    assert_close(out["loss"], F.cross_entropy(logits, batch["segmentation"]))


def test_a_batch_without_labels_has_zero_loss() -> None:
    task, batch = build("segmentation"), image()
    batch["segmentation"] = torch.full((4, 17, 20), -1)
    assert task(batch)["loss"].item() == 0


def test_padding_points_count_for_nothing() -> None:
    inputs = {"x": "points", "coords": "points", "mask": "real"}
    task = create_task("segmentation", model="points_nano", inputs=inputs, num_outputs=3).eval()
    batch = {"points": torch.randn(2, 30, 3), "real": torch.arange(30).expand(2, -1) < 20}
    batch["segmentation"] = torch.randint(3, (2, 30))
    loss = task(batch)["loss"]
    batch["segmentation"][:, 20:] = (batch["segmentation"][:, 20:] + 1) % 3
    assert_close(task(batch)["loss"], loss)


def test_a_target_of_the_wrong_size_is_named() -> None:
    with pytest.raises(ValueError, match=r"must be \(4, 17, 20\), got \(4, 20, 17\)"):
        build("segmentation")({**image(), "segmentation": torch.zeros(4, 20, 17, dtype=torch.long)})


def test_masked_error_is_measured_on_hidden_tokens_only() -> None:
    task, batch = build("masked", mask_ratio=0.5).eval(), image()
    found = task.predict(batch)
    same = (found["reconstruction"] == batch["image"]).all(1)  # pixels left as they are
    tokens, layout = task.model.embed(batch["image"])
    hidden, seen = task.choose(tokens, layout)
    assert not (hidden & seen).any()
    assert hidden.sum(1).tolist() == [12] * 4  # of 5 x 5 tokens; round half to even
    squares = hidden[0].view(5, 5).repeat_interleave(4, 0).repeat_interleave(4, 1)[:17, :20]
    assert (same[0] == ~squares).all()
    whole = batch["image"][..., :16, :]  # whole patches: nothing beyond the edge to predict
    found = task.predict({"image": whole})
    squares = (found["reconstruction"] - whole).square().flatten(1)
    assert_close(found["masked_mse"], squares.sum(1) / (10 * 48))  # 10 of 4 x 5 tokens of 48 values


def test_masks_repeat_in_eval_and_follow_the_generator_in_training() -> None:
    task = build("masked")
    tokens, layout = task.model.embed(image()["image"])
    first = task.choose(tokens, layout)[0]
    assert not torch.equal(first, task.choose(tokens, layout)[0])
    task.generator = torch.Generator().manual_seed(3)
    one = task.choose(tokens, layout)[0]
    task.generator.manual_seed(3)
    assert torch.equal(one, task.choose(tokens, layout)[0])
    task.eval()
    chosen = task.choose(tokens, layout)[0]
    assert torch.equal(chosen, task.choose(tokens, layout)[0])
    assert torch.equal(chosen[:1], task.choose(tokens[:1], layout)[0])


def test_hidden_tokens_do_not_leak_into_their_prediction() -> None:
    task, batch = build("masked").eval(), image()
    tokens, layout = task.model.embed(batch["image"])
    hidden, _ = task.choose(tokens, layout)
    cells = task.model.stem.cut(batch["image"])
    other = task.model.stem.join(torch.where(hidden[..., None], cells + 5, cells), (17, 20))
    assert_close(task(batch)["prediction"], task({"image": other})["prediction"])


def test_padding_points_are_never_hidden_and_never_shown() -> None:
    inputs = {"x": "points", "coords": "points", "mask": "real"}
    task = create_task("masked", model="points_nano", inputs=inputs, num_outputs=0)
    real = torch.arange(30).expand(3, -1) < torch.tensor([[20], [1], [0]])
    points = torch.randn(3, 30, 3)
    tokens, layout = task.model.embed(points, coords=points, mask=real)
    hidden, seen = task.choose(tokens, layout)
    assert torch.equal(hidden | seen, real)
    assert hidden.sum(1).tolist() == [12, 1, 0]
    assert task({"points": points, "real": real})["loss"].isfinite()


def test_the_baseline_is_the_mean_of_what_is_seen() -> None:
    task = build("masked").eval()
    flat = {"image": torch.full((2, 3, 16, 16), 3.0)}
    metrics = task.metrics(task(flat), flat)
    assert_close(metrics["baseline_mse"], torch.zeros(2))
    noisy = {"image": torch.randn(2, 3, 64, 64)}
    assert_close(task.metrics(task(noisy), noisy)["baseline_mse"], torch.ones(2), atol=0.1, rtol=0)
    with pytest.raises(ValueError, match="mask_ratio must be between 0 and 1, got 1"):
        build("masked", mask_ratio=1.0)
