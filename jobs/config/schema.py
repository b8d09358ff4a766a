"""The three kinds of job and every field a job file may have. What a field means is its description here."""

import json
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from jobs.config.fields import (
    INCIDENTAL,
    ByteSize,
    Count,
    FieldName,
    Options,
    OutputPlace,
    Place,
    Share,
    SourceName,
    Steps,
    Values,
    parse_sequence,
)

ModalityName = Literal["image", "video", "pointcloud", "hyperspectral", "lighting"]
TaskName = Literal["classification", "regression", "segmentation", "masked"]
LabelsFrom = Literal["auto", "folder", "sidecar", "column", "none"]


class Section(BaseModel):
    """A mapping in a job file: unknown fields are mistakes, types are not guessed, nothing changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Source(Section):
    """Where the raw data comes from: a place, or the modality's own generator."""

    uri: Annotated[Place | None, INCIDENTAL] = Field(
        default=None, description="folder, file, URL, table (.parquet, .csv) of URIs, or WebDataset tars"
    )
    synth: Count | None = Field(default=None, description="generate this many samples instead of reading any")
    labels: LabelsFrom = Field(
        "auto",
        description="where classes and captions come from; auto takes sidecars and table columns where there "
        "are any, else the name of the folder when there are several folders",
    )
    glob: str | None = Field(
        default=None, min_length=1, description="only objects whose path below uri matches, such as **/*.jpg"
    )
    uri_column: str = Field(default="uri", min_length=1, description="column of a table that holds the URIs")
    label_column: str = Field(
        default="label", min_length=1, description="column of a table that holds the classes"
    )
    caption_column: str = Field(
        default="caption", min_length=1, description="column of a table that holds captions"
    )
    group_column: str = Field(
        default="group",
        min_length=1,
        description="column of a table that holds the scene, all of which goes into one split",
    )
    name: SourceName | None = Field(
        default=None,
        description="goes before every sample's name; give it to a source that is added to a dataset of "
        "another one with the same file names",
    )
    allow_empty: Annotated[bool, INCIDENTAL] = Field(
        default=False, description="take a source with nothing in it for one that fills later"
    )
    anonymous: Annotated[bool, INCIDENTAL] = Field(
        default=False, description="read an object store without credentials; these never stand in a job file"
    )

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.uri is None) == (self.synth is None):
            raise ValueError("needs exactly one of uri and synth")
        return self


class Filter(Section):
    """Keep the samples whose field passes every test given; the others are counted as filtered."""

    kind: Literal["filter"]
    field: FieldName = Field(description="quality.NAME, meta.NAME, label or caption")
    min: float | None = Field(default=None, description="smallest value kept")
    max: float | None = Field(default=None, description="largest value kept")
    one_of: Values | None = Field(default=None, description="values kept")
    not_one_of: Values | None = Field(default=None, description="values dropped")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if all(test is None for test in (self.min, self.max, self.one_of, self.not_one_of)):
            raise ValueError("a filter needs at least one of min, max, one_of and not_one_of")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min is {self.min:g}, above max, which is {self.max:g}: nothing would be kept")
        if not self.field.startswith(("quality.", "meta.")) and not (self.min is self.max is None):
            raise ValueError(f"min and max need a number, {self.field} is text; use one_of or not_one_of")
        return self


class Cut(Section):
    """Make several samples of one object: clips or scenes of a video, tiles of a raster or cloud, frames."""

    kind: Literal["cut"]
    how: str = Field(min_length=1, description="name of the cut: clips, scenes, tiles, frames, ...")
    options: Options = Field(default_factory=dict, description="its keyword arguments")


class Transform(Section):
    """Change every sample and encode it anew. Without one, bytes in are bytes out."""

    kind: Literal["transform"]
    how: str = Field(min_length=1, description="name of the transform: resize, transcode, bands, voxel, ...")
    options: Options = Field(default_factory=dict, description="its keyword arguments")


Stage = Annotated[Filter | Cut | Transform, Field(discriminator="kind")]


class Shards(Section):
    """How samples are laid into tar files. A shard is closed by whichever limit comes first."""

    max_bytes: ByteSize = Field(default=256 * 2**20, description="size of a shard, such as 256MiB")
    max_samples: Count = Field(default=10_000, description="samples in a shard")
    shuffle: bool = Field(
        default=True, description="order the samples by seed; false keeps the order of the source"
    )


class Split(Section):
    """Shares held out; by default every piece of a scene, flight line or video goes the same way."""

    val: Share = Field(default=0.0, description="share of the scenes for validation")
    test: Share = Field(default=0.0, description="share of the scenes for testing")
    by: Literal["scene", "cluster", "piece"] = Field(
        default="scene",
        description="what goes one way as a whole: a scene with all its pieces; cluster: also all scenes "
        "with near-duplicates of each other; or each piece alone: pieces of one scene resemble each "
        "other, so scores by piece flatter",
    )
    stratify: bool = Field(
        default=False,
        description="give every class its shares, to within one scene; else shares are met on average",
    )

    @model_validator(mode="after")
    def _leaves_training_data(self) -> Self:
        if self.val + self.test >= 1:
            raise ValueError(f"val + test is {self.val + self.test:g}; it must leave a share to train on")
        return self


class Quarantine(Section):
    """How many samples may be set aside before the finished job exits with 3."""

    max_share: Annotated[Share, INCIDENTAL] = Field(default=0.5, description="largest share of the inputs")
    max_count: Annotated[int | None, INCIDENTAL] = Field(
        default=None, ge=0, description="largest number; null: the share alone decides"
    )


class _Job(Section):
    """What every job can do."""

    kind: str

    def resolved(self) -> dict[str, Any]:
        """Every field with its value, as JSON has it."""
        return self.model_dump(mode="json")

    def digest(self) -> str:
        """BLAKE3 (hex) of the canonical JSON of every field that changes the result.

        Left out are the fields marked INCIDENTAL: places (what lies there has its own digests), workers,
        quarantine budgets, checkpoint intervals. `config explain` says of each field which it is.
        """
        import blake3

        text = json.dumps(_essential(self), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return blake3.blake3(text.encode()).hexdigest()


class IngestJob(_Job):
    """Raw objects to a dataset of WebDataset shards."""

    kind: Literal["ingest"]
    modality: ModalityName = Field(description="kind of data")
    source: Source = Field(description="where the raw data comes from")
    output: Annotated[OutputPlace, INCIDENTAL] = Field(description="the dataset, made or added to")
    stages: Annotated[tuple[Stage, ...], BeforeValidator(parse_sequence)] = Field(
        default=(), description="filters, cuts and transforms, in order"
    )
    shards: Shards = Field(default_factory=Shards, description="how samples are laid into tar files")
    seed: int = Field(default=0, ge=0, lt=2**63, description="of the order of samples, of splits, of synth")
    split: Split = Field(default_factory=Split, description="shares held out; the rest is for training")
    classes: Literal["names", "numbers"] = Field(
        default="names",
        description="names: classes are numbered in the order of their names; numbers: labels are class "
        "numbers already and stand for themselves",
    )
    dedup: Literal["none", "exact", "content", "near"] = Field(
        default="none",
        description="of duplicates only one is kept: exact, the same bytes; content, the same when decoded; "
        "near, also fingerprints that differ in few bits",
    )
    dedup_distance: int = Field(
        default=6, ge=1, le=16, description="bits of 64 in which fingerprints of near-duplicates may differ"
    )
    decode: bool = Field(
        default=True, description="decode every sample once: proof that it opens, quality and fingerprint"
    )
    quarantine: Quarantine = Field(default_factory=Quarantine, description="how much may be set aside")
    single_writer: Annotated[bool, INCIDENTAL] = Field(
        default=False,
        description="your word that nobody else builds this dataset: goes on where a storage cannot keep two "
        "builders apart (`rayloom doctor storage`)",
    )
    workers: Annotated[Count | None, INCIDENTAL] = Field(
        default=None, description="processes; null: every core"
    )

    @model_validator(mode="after")
    def _quality_needs_decode(self) -> Self:
        for index, stage in enumerate(self.stages):
            if isinstance(stage, Filter) and stage.field.startswith("quality.") and not self.decode:
                raise ValueError(f"stages.{index} filters by {stage.field}, which needs decode: true")
        return self


class Model(Section):
    """A preset of models/ by name (`rayloom zoo list`), with its options."""

    name: str = Field(min_length=1, description="name of the model; `rayloom zoo list` prints them")
    options: Options = Field(default_factory=dict, description="what to change in the preset, such as depth")


class Validation(Section):
    """Held-out measurement during training; skipped, and said so, when the split is empty."""

    split: Literal["train", "val", "test"] = Field(default="val", description="split measured on")
    every: Count | None = Field(default=None, description="steps between measurements; null: at the end only")
    metric: str | None = Field(
        default=None, min_length=1, description="what the best checkpoint is best in; null: the task's own"
    )
    patience: Count | None = Field(
        default=None, description="stop after this many measurements without a better one; null: never"
    )


class Part(Section):
    """One dataset more to train on, of the same modality and with the same classes."""

    dataset: Annotated[Place, INCIDENTAL] = Field(description="what an ingest job wrote")
    weight: float = Field(default=1.0, gt=0, description="its share of the samples, against the others'")


class TrainJob(_Job):
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
    retries: Annotated[int, INCIDENTAL] = Field(
        default=2, ge=0, description="times that lost workers are replaced, from the newest checkpoint"
    )
    loader_workers: Annotated[int, INCIDENTAL] = Field(
        default=1, ge=0, description="threads that read and decode, for each training process; 0: none"
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
        if self.batch_size % self.workers:
            raise ValueError(f"batch_size {self.batch_size} does not divide among {self.workers} workers")
        if self.batch_size // self.workers % self.accumulate:
            raise ValueError(
                f"accumulate {self.accumulate} does not divide the {self.batch_size // self.workers} samples "
                "of a worker's batch"
            )
        if self.num_warmup_steps + self.num_cooldown_steps > self.steps:
            raise ValueError(
                f"warmup_steps and cooldown_steps are {self.num_warmup_steps} + {self.num_cooldown_steps}, "
                f"more than steps, which is {self.steps}"
            )
        if self.cooldown_steps is not None and self.schedule != "wsd":
            raise ValueError(f"cooldown_steps is for schedule: wsd, and schedule is {self.schedule}")
        if self.label_smoothing and self.task != "classification":
            raise ValueError(f"label_smoothing is for task: classification, and task is {self.task}")
        if self.validation.patience is not None and self.validation.every is None:
            raise ValueError("validation.patience counts measurements: give validation.every")
        return self


class InferJob(_Job):
    """A dataset and a trained model to predictions, a Parquet file for each shard."""

    kind: Literal["infer"]
    dataset: Annotated[Place, INCIDENTAL] = Field(description="what an ingest job wrote")
    checkpoint: Annotated[Place, INCIDENTAL] = Field(description="what a train job wrote")
    pick: Literal["last", "best"] = Field(
        default="last", description="best: the checkpoint that was best on the held-out split"
    )
    weights: Literal["averaged", "raw"] = Field(
        default="averaged", description="of a run with average: the average, or the weights as trained"
    )
    output: Annotated[OutputPlace, INCIDENTAL] = Field(description="the predictions, made or added to")
    batch_size: Annotated[Count, INCIDENTAL] = Field(default=32, description="samples of one forward pass")
    split: Literal["train", "val", "test"] | None = Field(
        default=None, description="only this split; null: all"
    )
    workers: Annotated[Count, INCIDENTAL] = Field(default=1, description="copies of the model")


Job = IngestJob | TrainJob | InferJob
JOBS: Final[dict[str, type[IngestJob] | type[TrainJob] | type[InferJob]]] = {
    "ingest": IngestJob,
    "train": TrainJob,
    "infer": InferJob,
}


def _essential(section: BaseModel) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, info in type(section).model_fields.items():
        if INCIDENTAL not in info.metadata:
            found[name] = _plain(getattr(section, name))
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return _essential(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
