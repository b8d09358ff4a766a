"""A machine goes while all of them look for duplicates, at moments from the first task to the last."""

import os
import subprocess
import sys

import pytest

LONG = pytest.mark.skipif("RAYLOOM_CHAOS" not in os.environ, reason="the long tier: make chaos")


@LONG
@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_lost_machine_changes_no_plan_and_is_not_waited_for() -> None:
    """A program of its own: its cluster does not go with that of the tests."""
    command = [sys.executable, "-m", "jobs.chaos.nodes", "--points", "6"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=540, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-3000:]}\nagain: {' '.join(command[1:])}"
    assert done.stdout.count("the same plan") == 6
