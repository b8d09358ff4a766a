"""The fields of an infer job. What a field means is its description here."""

from typing import Annotated, Literal

from pydantic import Field

from jobs.config.fields import INCIDENTAL, Count, OutputPlace, Place
from jobs.config.schema.section import JobSection, SplitName


class InferJob(JobSection):
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
    split: SplitName | None = Field(default=None, description="only this split; null: all")
    workers: Annotated[Count, INCIDENTAL] = Field(default=1, description="copies of the model")
