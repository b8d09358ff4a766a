"""The kinds of job there are."""

from typing import Final

from jobs.config.schema.infer import InferJob
from jobs.config.schema.ingest import IngestJob
from jobs.config.schema.train import TrainJob

Job = IngestJob | TrainJob | InferJob
JOBS: Final[dict[str, type[IngestJob] | type[TrainJob] | type[InferJob]]] = {
    "ingest": IngestJob,
    "train": TrainJob,
    "infer": InferJob,
}
