"""Job files: one YAML a job, read into frozen models; every mistake with its line and what was meant."""

from jobs.config.load import load_job
from jobs.config.mistakes import ConfigError
from jobs.config.schema import InferJob, IngestJob, Job, TrainJob

__all__ = ["ConfigError", "InferJob", "IngestJob", "Job", "TrainJob", "load_job"]
