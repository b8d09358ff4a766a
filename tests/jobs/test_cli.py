"""The command line as a user meets it: what it prints, what it exits with, what it loads."""

import ast
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jobs import failures
from jobs.cli import main

ROOT = Path(__file__).parents[2]
HEAVY = {"ray", "torch", "pyarrow", "numpy", "pandas", "open3d", "decord", "av", "rasterio"}
INGEST = "kind: ingest\nmodality: image\nsource: {uri: raw}\noutput: out\n"


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )


class Here:
    """Runs commands in this process, in a folder of their own: the slow part of a command is its start."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(list(arguments))
        assert isinstance(caught.value.code, int)
        out, error = self.capsys.readouterr()
        return caught.value.code, out, error


@pytest.fixture
def rayloom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "job.yaml").write_text(INGEST)
    return Here(capsys)


def imported_by(arguments: list[str], cwd: Path) -> tuple[set[str], int]:
    """Top-level modules in memory when the command is done, and its exit code."""
    code = (
        "import sys\nfrom jobs.cli import main\n"
        f"try: main({arguments!r})\n"
        "except SystemExit as e:\n"
        "    print('', sorted({m.partition('.')[0] for m in sys.modules}), e.code, sep='\\n')"
    )
    done = python("-c", code, cwd=cwd)
    *_, modules, exit_code = done.stdout.splitlines()
    return set(ast.literal_eval(modules)), int(exit_code)


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    modules, code = imported_by(["--help"], tmp_path)
    assert code == 0
    assert not modules & (HEAVY | {"pydantic", "yaml"})


def test_a_misspelt_key_is_answered_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(INGEST + "shards:\n  max_byts: 5\n")
    modules, code = imported_by(["run", "job.yaml"], tmp_path)
    assert code == 2
    assert "yaml" in modules
    assert not modules & HEAVY
    done = python("-m", "jobs.cli", "run", "job.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "job.yaml:6:3  shards.max_byts  unknown field; did you mean 'max_bytes'?  (got 5)\n"
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "Missing argument 'JOB.yaml'"),
        (["run", "nothing.yaml"], "nothing.yaml:1:1  no such file"),
        (["run", "job.yaml", "sed=3"], "override 'sed=3'  sed  unknown field; did you mean 'seed'?"),
        (["rn", "job.yaml"], "No such command 'rn'. Did you mean 'run'?"),
        (["run", "job.yaml", "--quick"], "No such option: --quick"),
        (["check", "nothing"], "no dataset at"),
        (["check", "nothing", "--sample", "2"], "Invalid value for '--sample'"),
        (["stats", "nothing", "--format", "pdf"], "'pdf' is none of text, json, html"),
        (["config", "explain", "shards.max_byts"], "did you mean 'shards.max_bytes'?"),
        (["config", "schema", "trian"], "did you mean 'train'?"),
    ],
)
def test_bad_arguments_exit_with_2_and_no_traceback(
    arguments: list[str], message: str, rayloom: Here
) -> None:
    code, out, error = rayloom(*arguments)
    assert code == 2
    assert message in error
    assert "Traceback" not in error + out


def test_debug_shows_the_traceback_wherever_it_stands(rayloom: Here) -> None:
    for arguments in (["--debug", "run", "nothing.yaml"], ["run", "nothing.yaml", "--debug"]):
        code, _, error = rayloom(*arguments)
        assert code == 2
        assert "Traceback" in error
        assert error.splitlines()[-1].startswith("nothing.yaml:1:1  no such file")


def test_config_resolve_prints_a_file_that_runs(rayloom: Here) -> None:
    code, first, _ = rayloom("config", "resolve", "job.yaml", "seed=3")
    Path("again.yaml").write_text(first)
    again, second, _ = rayloom("config", "resolve", "again.yaml")
    assert (code, again) == (0, 0)
    assert first.splitlines()[0] == second.splitlines()[0]  # the digest


def test_config_schema_and_explain_print(rayloom: Here) -> None:
    assert json.loads(rayloom("config", "schema", "infer")[1])["properties"]["checkpoint"]
    assert "size of a shard" in rayloom("config", "explain", "max_bytes")[1]


def test_init_prints_the_files_it_writes(rayloom: Here) -> None:
    code, out, _ = rayloom("init", "jobs here")
    assert code == 0
    assert "jobs here/image/ingest.yaml" in out.splitlines()
    assert all(Path(line).is_file() for line in out.splitlines())
    code, _, error = rayloom("init", "jobs here")
    assert code == 2
    assert "is there already" in error


def test_zoo_lists_and_shows_models(rayloom: Here) -> None:
    rows = {row["name"]: row for row in json.loads(rayloom("zoo", "list", "--json")[1])}
    assert rows["swin_tiny"]["system"] == "swin"
    assert "swin_tiny               swin" in rayloom("zoo", "list")[1]
    shown = json.loads(rayloom("zoo", "show", "swin_tiny", "--json")[1])
    assert shown["name"] == "swin_tiny"
    assert shown["parameters"] == 28_288_354  # Liu et al., 2021, table 7: 28.3 M
    code, _, error = rayloom("zoo", "show", "swin_tny")
    assert code == 2
    assert "swin_tiny" in error


def test_an_interrupted_job_exits_with_130_and_prints_how_to_go_on(tmp_path: Path) -> None:
    """A real signal, while a job that takes its time stands in for the ingest."""
    (tmp_path / "job.yaml").write_text(INGEST)
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING, "run", "job.yaml", "source.uri=my raw"],
        cwd=tmp_path, env=ENVIRONMENT,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130, error
    assert error.endswith("to go on: rayloom run job.yaml 'source.uri=my raw'\n")
    assert "Traceback" not in error


WAITING = """
import faulthandler, signal, sys, time
faulthandler.dump_traceback_later(25, exit=True)  # says where it hangs, should it
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
from jobs import ingest
from jobs.cli import main
def run(job):
    print("waiting", flush=True)
    for _ in range(300):  # a signal just before a long sleep would wait for its end
        time.sleep(0.1)
ingest.run = run
main()
"""


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ValueError("heads must divide dim"), 2, "heads must divide dim"),
        (LookupError("no model 'x'"), 2, "no model 'x'"),
        (FileNotFoundError(2, "No such file or directory", "x.yaml"), 2, "x.yaml: No such file or directory"),
        (
            OSError(28, "No space left on device", "out/a"),
            4,
            "out/a: No space left on device; free some space",
        ),
        (PermissionError(13, "Permission denied", "out"), 4, "out: Permission denied"),
        (ConnectionError("no Ray at 10.0.0.1:6379"), 5, "no Ray at 10.0.0.1:6379"),
        (KeyError("x"), 1, "this is a mistake in rayloom"),
        (ZeroDivisionError("x"), 1, "this is a mistake in rayloom"),
    ],
)
def test_errors_have_exit_codes_by_family(
    error: Exception, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert failures.report(error) == code
    shown = capsys.readouterr().err
    assert line in shown
    assert ("ZeroDivisionError: x" in shown or "KeyError: 'x'" in shown) == (code == 1)


def test_own_and_foreign_errors_of_storage_and_cluster_have_their_codes() -> None:
    from jobs.head import ClusterDown
    from modalities.base import BadSample
    from pipelines.shards.dataset import Corrupt
    from pipelines.shards.manifest import Conflict
    from pipelines.stages.sandbox import SandboxError

    assert failures.exit_code(ClusterDown("gone")) == failures.exit_code(SandboxError("does not start")) == 5
    assert failures.exit_code(BadSample("too-large", "x")) == 2
    assert failures.exit_code(Conflict("x")) == failures.exit_code(Corrupt("x")) == 4


def test_an_error_of_a_worker_is_read_through_the_error_of_ray(capsys: pytest.CaptureFixture[str]) -> None:
    from ray.exceptions import RayTaskError, WorkerCrashedError

    inside = RayTaskError("f", "traceback", ValueError("size must be 1 or more, got 0")).as_instanceof_cause()
    assert failures.report(inside) == 2
    assert capsys.readouterr().err == "size must be 1 or more, got 0\n"
    assert failures.exit_code(WorkerCrashedError()) == 5


def test_a_command_leaves_with_the_code_of_its_job(rayloom: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    from jobs import ingest

    monkeypatch.setattr(ingest, "run", lambda job: 3)
    assert rayloom("run", "job.yaml")[0] == 3


def test_check_reads_everything_when_no_share_is_given(rayloom: Here) -> None:
    for given in ((), ("--sample", "50%")):
        code, _, error = rayloom("check", "nowhere", *given)
        assert code == 2, error
        assert "nowhere" in error
