"""The fields of a train job. What a field means is its description here."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from jobs.config.fields import INCIDENTAL, Count, Options, OutputPlace, Place, Steps, parse_sequence
from jobs.config.schema.section import JobSection, Section, SplitName

TaskName = Literal["classification", "regression", "segmentation", "masked"]
TrackerName = Literal[  # as accelerate calls them
    "tensorboard", "mlflow", "wandb", "aim", "clearml", "comet_ml", "dvclive", "swanlab", "trackio"
]  # fmt: skip
Trackers = Annotated[tuple[TrackerName, ...], BeforeValidator(parse_sequence)]


class Model(Section):
    """A preset of models/ by name (`rayloom zoo list`), with its options."""

    name: str = Field(min_length=1, description="name of the model; `rayloom zoo list` prints them")
    options: Options = Field(default_factory=dict, description="what to change in the preset, such as depth")

    @model_validator(mode="before")
    @classmethod
    def _by_name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class Validation(Section):
    """Held-out measurement during training; skipped, and said so, when the split is empty."""

    split: SplitName = Field(default="val", description="split measured on")
    every: Count | None = Field(default=None, description="steps between measurements; null: at the end only")
    metric: str | None = Field(
        default=None, min_length=1, description="what the best checkpoint is best in; null: the task's own"
    )
    patience: Count | None = Field(
        default=None, description="stop after this many measurements without a better one; null: never"
    )


class Part(Section):
    """One dataset more to train on, of the same modality; a task of its own gets a head of its own."""

    dataset: Annotated[Place, INCIDENTAL] = Field(description="what an ingest job wrote")
    weight: float = Field(default=1.0, gt=0, description="its share of the samples, against the others'")
    task: TaskName | None = Field(
        default=None, description="what is learned from it; null: the job's task, with the same classes"
    )
    target: str | None = Field(
        default=None, min_length=1, description="of a regression, as the job's own target"
    )
    options: Options = Field(
        default_factory=dict, description="of its task and head, beside model.options, such as mask_ratio"
    )

    @model_validator(mode="after")
    def _of_its_task(self) -> Self:
        if self.task is None and (self.options or self.target):
            raise ValueError("options and target are those of a task; give task, too")
        return self


class TrainJob(JobSection):
    """A dataset to a trained model."""

    kind: Literal["train"]
    dataset: Annotated[Place, INCIDENTAL] = Field(description="what an ingest job wrote")
    task: TaskName = Field(description="objective and head")
    model: Model = Field(description="what is trained")
    steps: Count = Field(description="optimiser steps in all")
    output: Annotated[OutputPlace, INCIDENTAL] = Field(description="the run: checkpoints, log, resolved job")
    batch_size: Count = Field(default=16, description="samples of one optimiser step, over all workers")
    learning_rate: float = Field(default=3e-4, gt=0, description="after the warm-up")
    optimizer: Literal["adamw", "lion", "sgd"] = Field(
        default="adamw", description="sgd has Nesterov's momentum 0.9; lion wants a third of AdamW's rate"
    )
    weight_decay: float = Field(
        default=0.05,
        ge=0,
        description="decoupled, of linear maps and convolutions; biases, norms, tables: none",
    )
    layer_decay: float = Field(
        default=1.0, gt=0, le=1, description="learning rate of a block against that of the next, deeper one"
    )
    schedule: Literal["cosine", "linear", "wsd", "constant"] = Field(
        default="cosine", description="of the learning rate after the warm-up; wsd: constant, then down to 0"
    )
    warmup_steps: int | None = Field(
        default=None, ge=0, description="linear from 0; null: a twentieth of steps"
    )
    cooldown_steps: int | None = Field(
        default=None, ge=0, description="last steps of wsd, linear to 0; null: a fifth of steps"
    )
    accumulate: Annotated[Count, INCIDENTAL] = Field(
        default=1, description="forward and backward passes that the batch of a step is divided into"
    )
    average: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="keep an exponential moving average of the weights with this decay, measure and predict "
        "with it; null: none",
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="of classification: share of the target given to all classes"
    )
    gradient_clip: float | None = Field(
        default=1.0, gt=0, description="largest norm of the gradient; null: none"
    )
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        default="fp32", description="of the forward and backward pass"
    )
    compile: Literal["inductor", "eager"] | None = Field(
        default=None, description="torch.compile each block with this backend; null: do not"
    )
    recompute: Annotated[bool, INCIDENTAL] = Field(
        default=False, description="compute each block again in the backward pass: less memory, more time"
    )
    seed: int = Field(default=0, ge=0, lt=2**63, description="of weights, order and augmentation")
    target: str | None = Field(
        default=None,
        min_length=1,
        description="field or metadata a regression learns; null: the modality's own",
    )
    data: Options = Field(
        default_factory=dict, description="options of the modality's prepare: size, frames, num_points, ..."
    )
    more: Annotated[tuple[Part, ...], BeforeValidator(parse_sequence)] = Field(
        default=(), description="datasets to train on besides `dataset`, with their weights"
    )
    weight: float = Field(default=1.0, gt=0, description="share of `dataset` in the samples, beside `more`")
    augment: Annotated[Steps | None, BeforeValidator(parse_sequence)] = Field(
        default=None, description="steps in place of prepare's random view (docs/guide/loading.md)"
    )
    blend: dict[Literal["mixup", "cutmix"], Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict,
        description="of classification: blend samples of a batch in pairs, {mixup: 0.2, cutmix: 1.0}; the "
        "numbers are alpha of the Beta distribution of the shares",
    )
    open_shards: Count | None = Field(
        default=16, description="shards that are mixed with each other at a time; null: all"
    )
    skip_bad: Annotated[bool, INCIDENTAL] = Field(
        default=False, description="leave out samples that are damaged or do not decode, and count them"
    )
    tail: bool = Field(
        default=False,
        description="each epoch takes the newest snapshot there is: train while an ingest job goes on",
    )
    validation: Validation = Field(default_factory=Validation, description="held-out measurement")
    checkpoint_every: Annotated[Count | None, INCIDENTAL] = Field(
        default=500, description="steps between checkpoints; null: at the end only"
    )
    keep: Annotated[Count | None, INCIDENTAL] = Field(
        default=3, description="newest checkpoints kept, beside the best; null: all"
    )
    resume: Annotated[bool, INCIDENTAL] = Field(
        default=True, description="go on from the newest good checkpoint in output, if there is one"
    )
    workers: Annotated[Count, INCIDENTAL] = Field(default=1, description="training processes")
    min_workers: Annotated[Count | None, INCIDENTAL] = Field(
        default=None,
        description="go on with as few as this when machines are lost, and with up to `workers` when there "
        "are machines again; null: always with `workers`",
    )
    parallel: Annotated[Literal["ddp", "fsdp"], INCIDENTAL] = Field(
        default="ddp", description="of several workers each has the whole model, or (fsdp) a part of it"
    )
    retries: Annotated[int, INCIDENTAL] = Field(
        default=2, ge=0, description="times that lost workers are replaced, from the newest checkpoint"
    )
    loader_workers: Annotated[int, INCIDENTAL] = Field(
        default=1, ge=0, description="threads that read and decode, for each training process; 0: none"
    )

    trackers: Annotated[Trackers | None, INCIDENTAL] = Field(
        default=None, description="where numbers go besides log.jsonl; null: tensorboard, if installed"
    )

    @property
    def num_warmup_steps(self) -> int:
        return self.steps // 20 if self.warmup_steps is None else self.warmup_steps

    @property
    def num_cooldown_steps(self) -> int:
        if self.schedule != "wsd":
            return 0
        return self.steps // 5 if self.cooldown_steps is None else self.cooldown_steps

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        if self.num_warmup_steps > self.steps:
            raise ValueError(f"warmup_steps is {self.warmup_steps}, more than steps, which is {self.steps}")
        if self.target is not None and self.task != "regression":
            raise ValueError(f"target is for task: regression, and task is {self.task}")
        self._divides()
        if self.num_warmup_steps + self.num_cooldown_steps > self.steps:
            raise ValueError(
                f"warmup_steps and cooldown_steps are {self.num_warmup_steps} + {self.num_cooldown_steps}, "
                f"more than steps, which is {self.steps}"
            )
        if self.cooldown_steps is not None and self.schedule != "wsd":
            raise ValueError(f"cooldown_steps is for schedule: wsd, and schedule is {self.schedule}")
        if self.label_smoothing and self.task != "classification":
            raise ValueError(f"label_smoothing is for task: classification, and task is {self.task}")
        if self.blend and self.task != "classification":
            raise ValueError(f"blend is for task: classification, and task is {self.task}")
        if self.blend and any(part.task for part in self.more):
            raise ValueError("blend is for one task, and more has others; leave one of the two out")
        if self.tail and self.more:
            raise ValueError("tail follows one dataset, and there are more; leave one of the two out")
        if self.parallel == "fsdp" and self.precision == "fp16":
            raise ValueError("parallel: fsdp takes precision bf16 or fp32, got fp16")
        if self.validation.patience is not None and self.validation.every is None:
            raise ValueError("validation.patience counts measurements: give validation.every")
        return self

    def _divides(self) -> None:
        """The batch goes evenly among as many workers as there may be, and into the passes of each."""
        fewest = self.workers if self.min_workers is None else self.min_workers
        if fewest > self.workers:
            raise ValueError(f"min_workers is {fewest}, more than workers, which is {self.workers}")
        for workers in range(fewest, self.workers + 1):
            if self.batch_size % workers:
                raise ValueError(f"batch_size {self.batch_size} does not divide among {workers} workers")
            if self.batch_size // workers % self.accumulate:
                raise ValueError(
                    f"accumulate {self.accumulate} does not divide the {self.batch_size // workers} samples "
                    "of a worker's batch"
                )
