"""Which array of a modality feeds which argument of a model. Only jobs sees both."""

import inspect
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final

import modalities
from jobs.config.schema import TrainJob
from pipelines.loading import Loader
from pipelines.loading.augment import Chain
from pipelines.shards.dataset import Dataset

INPUTS: Final[Mapping[str, Mapping[str, str]]] = {
    "image": {"x": "image"},
    "video": {"x": "video", "times": "times"},
    "pointcloud": {"x": "features", "coords": "points"},
    "hyperspectral": {"x": "cube", "wavelengths": "wavelengths"},
    "lighting": {"x": "video"},
}
TARGETS: Final[Mapping[str, str]] = {
    "lighting": "light"
}  # what a regression learns when the job names nothing
SCANNED = 64  # samples looked at for the number of segmentation classes


def task_spec(job: TrainJob, dataset: Dataset) -> dict[str, Any]:
    """Everything `create_task` and the loader need, JSON-able: it goes into every checkpoint."""
    modality = dataset.manifest.modality
    _check_model(job.model.name, modality, job.dataset)
    Chain(modality, job.augment or ())  # a wrong step is said before a sample is read
    data = dict(job.data)
    known = inspect.signature(modalities.get(modality).prepare).parameters
    if unknown := [name for name in data if name not in known or name == "rng"]:
        near = get_close_matches(unknown[0], known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {sorted({*known} - {'arrays', 'rng'})}"
        raise LookupError(f"data: {modality} has no option {unknown[0]!r}; {hint}")
    targets = [job.target] if job.target and job.target.startswith(("meta.", "quality.")) else []
    probe = Loader(dataset, batch_size=1, options=data, targets=targets, shuffle=False, skip_bad=job.skip_bad)
    first = next(batch for batch in probe if batch["key"])
    x = first[INPUTS[modality]["x"]]
    # A cloud has its features last; a cube's bands are tokens, each of one channel.
    channels = {"pointcloud": x.shape[-1], "hyperspectral": 1}.get(modality, x.shape[1])
    options = {"in_chans": channels, **job.model.options}
    if job.label_smoothing:
        options["label_smoothing"] = job.label_smoothing
    target = job.target or TARGETS.get(modality)
    if job.task == "classification":
        outputs = len(dataset.manifest.classes)
        if outputs < 2:
            raise ValueError(
                f"task classification needs labels of at least two classes; {job.dataset} has "
                f"{list(dataset.manifest.classes)}. Put each class in a folder, or give .cls files"
            )
    elif job.task == "segmentation":
        outputs = _segment_classes(probe, job)
    elif job.task == "regression":
        if target is None or target not in first:
            raise ValueError(
                f"task regression needs target: one of {sorted(set(first) - {'key'})}, got {target!r}"
            )
        options["target"] = target
        outputs = 1 if first[target].ndim == 1 else first[target].shape[-1]
    else:
        outputs = 0
    return {
        "modality": modality,
        "task": job.task,
        "model": job.model.name,
        "inputs": dict(INPUTS[modality]),
        "num_outputs": options.pop("num_outputs", outputs),
        "options": options,
        "data": data,
        "targets": targets,
        "classes": list(dataset.manifest.classes),
    }


def part_specs(job: TrainJob, datasets: Sequence[Dataset]) -> list[dict[str, Any] | None]:
    """The spec of each part of `more` that has a task of its own, None for the others."""
    from models.heads.base import HEADS
    from models.objectives.base import OBJECTIVES
    from models.registry import options_of

    main = OBJECTIVES[job.task]
    own = {*options_of(main), *options_of(HEADS[main.head])}  # what the other tasks and heads do not take
    shared = {n: v for n, v in job.model.options.items() if n not in own and not n.startswith("head")}
    found: list[dict[str, Any] | None] = []
    for part, dataset in zip(job.more, datasets[1:], strict=True):
        change = {
            "dataset": part.dataset, "task": part.task, "target": part.target, "more": (),
            "model": job.model.model_copy(update={"options": shared | part.options}),
            "label_smoothing": job.label_smoothing if part.task == "classification" else 0.0,
        }  # fmt: skip
        found.append(task_spec(job.model_copy(update=change), dataset) if part.task else None)
    return found


def check_mixture(job: TrainJob, datasets: Sequence[Dataset]) -> None:
    """ValueError unless all datasets of a run hold one kind of data, and the same classes if they count."""
    first, *others = datasets
    for part, other in zip(job.more, others, strict=True):
        counts = job.task == "classification" and part.task is None
        for name in ("modality", "classes") if counts else ("modality",):
            want, got = getattr(first.manifest, name), getattr(other.manifest, name)
            if want != got:
                raise ValueError(
                    f"more: {job.dataset} has {name} {want}, {part.dataset} has {got}; want the same"
                )


def _check_model(name: str, modality: str, dataset: str) -> None:
    """Refuse a model of another kind of data before any sample is read; LookupError for an unknown name."""
    from models.build import list_models
    from models.presets.base import resolve

    made_for = resolve(name)["modality"]
    if INPUTS[made_for]["x"] != INPUTS[modality]["x"]:
        raise ValueError(
            f"model {name} takes {made_for} data, and {dataset} holds {modality}; "
            f"models for it: {', '.join(list_models(modality))}"
        )


def _segment_classes(probe: Loader, job: TrainJob) -> int:
    highest = -1
    for i, batch in enumerate(batch for batch in probe if batch["key"]):
        if "segmentation" not in batch:
            raise ValueError(
                f"task segmentation needs labels, and {job.dataset} has samples without: {batch['key'][0]}. "
                "Put a .seg.png beside each image or cube; clouds need a classification"
            )
        highest = max(highest, int(batch["segmentation"].max()))
        if i >= SCANNED:
            break
    if highest < 1:
        raise ValueError(
            f"task segmentation needs at least two classes; {job.dataset} has labels up to {highest}"
        )
    return highest + 1


def build_task(spec: Mapping[str, Any]) -> Any:
    """The torch module that a spec describes, with fresh weights."""
    from jobs.several import Several
    from models import create_task

    tasks = [
        create_task(
            one["task"],
            model=one["model"],
            inputs=one["inputs"],
            num_outputs=one["num_outputs"],
            **one["options"],
        )
        for one in (spec, *filter(None, spec.get("more", ())))
    ]
    return Several(tasks) if len(tasks) > 1 else tasks[0]
