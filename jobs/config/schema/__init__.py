"""The three kinds of job and every field a job file may have, a kind a file."""

from jobs.config.schema.infer import InferJob
from jobs.config.schema.ingest import Cut, Filter, IngestJob, ModalityName, Source, Transform
from jobs.config.schema.kinds import JOBS, Job
from jobs.config.schema.train import TrainJob

__all__ = [
    "JOBS",
    "Cut",
    "Filter",
    "InferJob",
    "IngestJob",
    "Job",
    "ModalityName",
    "Source",
    "TrainJob",
    "Transform",
]
