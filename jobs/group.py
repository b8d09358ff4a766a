"""The processes that train: Ray Train starts them, and those that are lost are replaced."""

import logging
from collections.abc import Sequence
from typing import Any

from jobs.config.schema import TrainJob

log = logging.getLogger("rayloom")
RESIZE_S = 60.0  # between looks for machines that an elastic run could use


def fit(config: dict[str, Any], job: TrainJob) -> None:
    """Train until the run ends; lost workers are replaced, and go on from the newest checkpoint."""
    for left in reversed(range(job.retries + 1)):
        try:
            return _start(config, job)
        except Exception as e:
            if not (left and _lost(e)):
                raise
            log.warning(
                "a worker was lost: %s; going on from the newest checkpoint", str(e).splitlines()[0][:200]
            )


def _lost(error: BaseException | None) -> bool:
    """Whether an error tells of a process or a machine that went away, and not of what was asked of it."""
    from ray.exceptions import NodeDiedError, RayActorError, WorkerCrashedError

    if error is None:
        return False
    failures = getattr(error, "worker_failures", {}).values()  # of a group of workers
    if any(_lost(failure) for failure in failures):
        return True
    if isinstance(error, RayActorError | WorkerCrashedError | NodeDiedError | ConnectionError):
        return True
    return _lost(getattr(error, "health_check_failure", None) or error.__cause__)


def cores_each(machines: Sequence[int], workers: int) -> int:
    """The most cores that every worker can have, when no worker is divided between machines."""
    for cores in range(max(machines, default=1), 1, -1):
        if sum(there // cores for there in machines) >= workers:
            return cores
    return 1


def _start(config: dict[str, Any], job: TrainJob) -> None:
    """Ray Train with a worker for each of `job.workers`, the cores shared out among them.

    One worker is a Ray task in which Ray Train runs the loop where it is called: the controller and the three
    actors that serve a group of workers would each start Python and import torch, to coordinate nobody.
    """
    import ray

    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    cores = cores_each([int(there.get("CPU", 0)) for there in machines], job.workers)
    gpus = sum(there.get("GPU", 0) for there in machines) >= job.workers
    if job.workers == 1:
        loop: Any = _train  # what Ray makes of it has a type of its own
        alone = ray.remote(loop).options(num_cpus=cores, num_gpus=int(gpus), max_retries=0)
        ray.get(alone.remote(config, workers=0, cores=cores))
    elif job.min_workers is None:
        _train(config, workers=job.workers, cores=cores, gpus=gpus)
    else:
        _train(config, workers=(job.min_workers, job.workers), cores=cores, gpus=gpus)


def _train(config: dict[str, Any], *, workers: int | tuple[int, int], cores: int, gpus: bool = False) -> None:
    """Ray Train's trainer over `workers` processes of their own, or with 0 in this one.

    With a least and a largest number Ray Train starts as many as there is room for; when there is room for
    more it ends them all and starts that many, which go on from the newest checkpoint.
    """
    import tempfile

    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    scaling: Any = ScalingConfig  # typed as it was before it could be elastic
    with tempfile.TemporaryDirectory(prefix="rayloom-train-") as notes:  # Ray's own; ours are in output
        TorchTrainer(
            _work,
            train_loop_config={**config, "threads": cores},
            scaling_config=scaling(
                num_workers=workers,
                use_gpu=gpus,
                resources_per_worker={"CPU": cores} if workers else None,
                elastic_resize_monitor_interval_s=RESIZE_S,
            ),
            run_config=RunConfig(name="run", storage_path=notes),
        ).fit()


def _work(config: dict[str, Any]) -> None:
    """What each training process does."""
    import torch

    from jobs.loop import Run

    torch.set_num_threads(config["threads"])  # Ray reuses processes, whatever they were started for
    try:
        Run(config).work()
    except RuntimeError as e:
        if any(word in str(e) for word in ("gloo", "NCCL")):  # torch has no class for them
            raise ConnectionError(f"lost touch with another worker: {str(e).splitlines()[0]}") from e
        raise
