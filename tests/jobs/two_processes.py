"""Several runs, one after another, by two processes that share each; what they made is in their outputs.

A program of its own, started twice by test_parallel.py with a rank and a list of configs; "until" ends a run
at a step, as a kill just behind its checkpoint does, and "starts_in" begins the name of a file for the most
bytes of tensors that a process had while it started.
"""

import json
import os
import sys
from contextlib import nullcontext
from pathlib import Path

from jobs.loop import Run
from tests.jobs.living import Living


def main(rank: str, port: str, configs: Path) -> None:
    os.environ |= {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for config in json.loads(configs.read_text()):
        with Living() if "starts_in" in config else nullcontext() as living:
            run = Run(config)
        if living:
            Path(f"{config['starts_in']}-{rank}").write_text(str(living.most))
        run.job = run.job.model_copy(update={"steps": config.get("until", run.job.steps)})
        run.work()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
