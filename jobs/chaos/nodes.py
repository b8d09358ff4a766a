"""A machine that goes while all of them look for duplicates: the plan is that of one machine alone.

python -m jobs.chaos.nodes --points 8
"""

import argparse
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import pyarrow as pa

from jobs.bench.plan import CHUNK, SETTINGS, chunk
from jobs.cluster import ENVIRONMENT, ROOT, patiently
from pipelines.shards.exchange import Exchanges, OnDisk
from pipelines.shards.plan import Survey, make_plan

STORE_BYTES: Final = 2**30  # of each machine
NOTICED_SOON: Final = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 4,
}
ROWS: Final = 500_000
PATIENCE_S: Final = 300.0  # for one plan, which takes 10 to 20: shuffles of Ray's have waited without end
Found = tuple[str, pa.Table]  # the plan's digest, and its clusters


class Machines:
    """A Ray cluster of two machines of one core each."""

    def __init__(self) -> None:
        import ray
        from ray.cluster_utils import Cluster

        os.environ |= {**ENVIRONMENT, "PYTHONPATH": str(ROOT)}
        size: dict[str, Any] = {"num_cpus": 1, "object_store_memory": STORE_BYTES}
        head = {**size, "include_dashboard": False, "_system_config": NOTICED_SOON}
        self._size = size
        self._second: Any = None
        self._cluster = patiently(lambda: Cluster(initialize_head=True, head_node_args=head))
        ray.init(address=self._cluster.address, logging_level=logging.ERROR, log_to_driver=False)

    def complete(self) -> None:
        """Have both there."""
        if self._second is None:
            self._second = patiently(lambda: self._cluster.add_node(**self._size))
            self._cluster.wait_for_nodes()

    def lose(self) -> None:
        """Take the second one away, without a word."""
        self._cluster.remove_node(self._second, allow_graceful=False)
        self._second = None

    @contextmanager
    def given_up(self, what: str) -> Iterator[None]:
        """End this process, and the machines, if what is inside takes longer than PATIENCE_S."""

        def end() -> None:
            print(f"{what}: NO PLAN within {PATIENCE_S:g} s", flush=True)
            self._cluster.shutdown()  # type: ignore[no-untyped-call]
            os._exit(1)

        timer = threading.Timer(PATIENCE_S, end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def close(self) -> None:
        import ray

        ray.shutdown()
        self._cluster.shutdown()  # type: ignore[no-untyped-call]


def found(survey: Survey, exchange: Exchanges) -> Found:
    plan = make_plan(survey, settings={**SETTINGS, "dedup": "near"}, exchange=exchange)
    return plan.digest, plan.table("clusters")


def losses(points: int, rows: int = ROWS) -> Iterator[tuple[float, bool]]:
    """When in the search a machine went, as a share of it, and whether the plan is the right one."""
    from pipelines.graphs import exchange

    tables = [chunk(i, start, min(CHUNK, rows - start)) for i, start in enumerate(range(0, rows, CHUNK))]
    survey = Survey(rows, lambda columns: (table.select(columns) for table in tables))
    golden = found(survey, OnDisk)
    exchange.PART_ROWS = rows // 32
    begun: list[float] = []

    class Watched(exchange.Shuffle):
        """Says when the first question is asked."""

        def map(self, *given: Any, **more: Any) -> Iterator[pa.Table]:
            begun.append(time.monotonic())
            return super().map(*given, **more)

    machines = Machines()
    try:
        machines.complete()
        found(survey, Watched)  # whose workers have to start
        begun.clear()
        if found(survey, Watched) != golden:
            yield 1.0, False
        lasted = time.monotonic() - begun[0]
        for point in range(points):
            machines.complete()
            begun.clear()
            moment = (point + 0.5) / points

            def lose(moment: float = moment) -> None:
                while not begun:
                    time.sleep(0.01)
                time.sleep(moment * lasted)
                machines.lose()

            thread = threading.Thread(target=lose)
            thread.start()
            with machines.given_up(f"a machine lost after {moment:.0%}"):
                same = found(survey, Watched) == golden
            thread.join()
            yield moment, same
    finally:
        machines.close()


def main() -> None:
    """Lose a machine at so many moments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=8)
    parser.add_argument("--rows", type=int, default=ROWS)
    given = parser.parse_args()
    wrong = 0
    for moment, same in losses(given.points, given.rows):
        print(f"a machine lost after {moment:.0%}: {'the same plan' if same else 'ANOTHER PLAN'}", flush=True)
        wrong += not same
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
