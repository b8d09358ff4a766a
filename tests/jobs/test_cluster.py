"""Ray for the time of a job: what a signal does while it starts, and what stays behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from jobs.cluster import NODE_STARTS, patiently

ROOT = Path(__file__).parents[2]
STARTING = """
import sys, time
from jobs import ingest
from jobs.cli import main
from jobs.cluster import cluster
def run(job):
    print("starting", flush=True)
    with cluster(workers=1):
        time.sleep(60)  # a job that goes on until it is told to stop
ingest.run = run
main()
"""


def wait_for(process: psutil.Process, name: str) -> None:
    """Until a child of that name has been started."""
    deadline = time.monotonic() + 60
    while not any(name in " ".join(child.cmdline()[:1]) for child in process.children(recursive=True)):
        assert time.monotonic() < deadline, f"{name} was never started"
        time.sleep(0.02)


HEADLESS = """
import sys, threading, time
from jobs import head, ingest
from jobs.cli import main
from jobs.cluster import cluster
head.PATIENCE_S, head.EVERY_S = 1.0, 0.2
deaf = sys.argv.pop(1) == "deaf"
def run(job):
    import ray
    with cluster(workers=1):
        waiting = ray.remote(lambda: time.sleep(300)).remote()
        print("at work", flush=True)
        try:
            ray.get(waiting)
        except KeyboardInterrupt:
            if deaf:
                threading.Event().wait()
            raise
ingest.run = run
head.HURRY_S = 1.0 if deaf else 60.0
main()
"""


@pytest.mark.parametrize("main_thread", ["heeds", "deaf"])
def test_a_cluster_whose_head_dies_ends_the_job_with_a_word(tmp_path: Path, main_thread: str) -> None:
    job = tmp_path / "job.yaml"
    job.write_text("kind: ingest\nmodality: image\nsource: {uri: raw}\noutput: out\n")
    (temporary := tmp_path / "tmp").mkdir()
    mark = f"RAYLOOM_TEST_{os.getpid()}_{main_thread}"
    process = subprocess.Popen(
        [sys.executable, "-c", HEADLESS, main_thread, "run", str(job)],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary), mark: "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "at work\n", process.communicate()[1]
    children = psutil.Process(process.pid).children(recursive=True)
    [head] = [child for child in children if "gcs_server" in child.name()]
    head.kill()
    _, error = process.communicate(timeout=120)
    assert process.returncode == 5, error
    assert "the head of the cluster at" in error
    assert "Traceback" not in error
    assert not marked(mark)
    assert main_thread == "deaf" or not list(temporary.glob("rayloom-job-*"))


@pytest.mark.parametrize("moment", ["import", "gcs_server", "raylet"])
def test_sigterm_while_ray_starts_interrupts_and_leaves_no_process(tmp_path: Path, moment: str) -> None:
    job = tmp_path / "job.yaml"
    job.write_text("kind: ingest\nmodality: image\nsource: {uri: raw}\noutput: out\n")
    mark = f"RAYLOOM_TEST_{os.getpid()}_{moment}"
    process = subprocess.Popen(
        [sys.executable, "-c", STARTING, "run", str(job)],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT), mark: "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "starting\n"
    if moment != "import":
        wait_for(psutil.Process(process.pid), moment)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert "to go on: rayloom run" in error
    assert "Traceback" not in error
    deadline = time.monotonic() + 30
    while (left := marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left


def marked(name: str) -> list[list[str]]:
    """Command lines of the processes that have `name` in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if name in process.environ() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.cmdline())
        except psutil.Error:  # it ended meanwhile, or is not ours
            continue
    return found


FROZEN = """
import threading, time
import psutil
from jobs.cluster import cluster
def freeze():
    while True:
        for child in psutil.Process().children(recursive=True):
            if "raylet" in " ".join(child.cmdline()[:1]):
                return child.suspend()
        time.sleep(0.005)
threading.Thread(target=freeze, daemon=True).start()
with cluster(workers=1):
    import ray
    print(int(ray.cluster_resources()["CPU"]))
"""


@pytest.mark.skipif("RAYLOOM_CHAOS" not in os.environ, reason="Ray waits 30 s for what does not come")
def test_a_ray_that_does_not_come_up_is_started_again() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FROZEN],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    assert done.stdout == "1\n", done.stderr


def test_a_node_that_was_too_slow_to_start_is_started_again_and_no_other_error_is_hidden() -> None:
    tries: list[str] = []

    def start(*errors: str) -> str:
        if len(tries) < len(errors):
            tries.append(errors[len(tries)])
            raise Exception(tries[-1])
        return "up"

    slow = "The current node timed out during startup. This could happen because ..."
    assert patiently(lambda: start(slow, slow)) == "up"
    assert tries == [slow, slow]
    tries.clear()
    with pytest.raises(Exception, match="no such port"):
        patiently(lambda: start(slow, "no such port", slow))
    assert tries == [slow, "no such port"]
    tries.clear()
    with pytest.raises(Exception, match="timed out during startup"):
        patiently(lambda: start(*[slow] * 9))
    assert len(tries) == NODE_STARTS
