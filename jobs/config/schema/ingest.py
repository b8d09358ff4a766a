"""The fields of an ingest job. What a field means is its description here."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

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
    Values,
    parse_sequence,
)
from jobs.config.schema.section import JobSection, Section

ModalityName = Literal["image", "video", "pointcloud", "hyperspectral", "lighting"]
LabelsFrom = Literal["auto", "folder", "sidecar", "column", "none"]


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
    """Shares held out; by default every piece of an object, or of a table's group, goes the same way."""

    val: Share = Field(default=0.0, description="share of the scenes for validation")
    test: Share = Field(default=0.0, description="share of the scenes for testing")
    by: Literal["scene", "folder", "cluster", "piece"] = Field(
        default="scene",
        description="what goes one way as a whole: a scene with all its pieces, which is a video, a cloud, a "
        "cube, or what a table groups by group_column; folder: all scenes of one folder, such as the strips "
        "of a flight line; cluster: also all scenes with near-duplicates of each other; or each piece "
        "alone: pieces of one scene resemble each other, so scores by piece flatter",
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


class IngestJob(JobSection):
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
