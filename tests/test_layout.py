"""What the documents say of the repository is so, and the repository keeps its own rules."""

import inspect
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath

import pytest

import modalities
from jobs.config import InferJob, IngestJob, TrainJob, load_job

ROOT = Path(__file__).parents[1]
ROOMS = ("modalities", "pipelines", "models", "jobs")
PAGES = ("README.md", *(f"docs/guide/{path.name}" for path in sorted((ROOT / "docs/guide").glob("*.md"))))
NO_NOUN = {"utils", "util", "common", "helpers", "helper", "misc"}


@cache
def tracked() -> tuple[str, ...]:
    """Files in git, by path from the root; without git, in a bare copy, the tests that need them skip."""
    if not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    return tuple(name for name in listed.decode().split("\0") if name and (ROOT / name).exists())


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str, language: str) -> list[str]:
    """Fenced blocks of one language in a document."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", read(name), re.DOTALL | re.MULTILINE)
    return [text for said, text in fenced if said == language]


def tree_of(block: str) -> set[str]:
    """Folders of a drawn tree, "jobs" and "jobs/config": words that end in a slash, on two levels."""
    folders, above = set(), ""
    for line in block.splitlines():
        names = re.findall(r"(?<!\S)([\w.]+)/(?!\S)", line)
        if names and not line.startswith(" "):
            above = names[0]
            folders.add(above)
        else:
            folders |= {f"{above}/{name}" for name in names}
    return folders


def tables(name: str, *head: str) -> Iterator[list[str]]:
    """Rows of the table that has this head, a list of cells each."""
    inside = False
    for line in read(name).splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if cells == list(head):
            inside = True
        elif not cells:
            inside = False
        elif inside and set(line) - set("|-"):
            yield cells


def test_the_tree_in_the_readme_is_the_tree_on_disk() -> None:
    (drawn,) = (block for block in blocks("README.md", "") if "\nmodalities/" in block)
    parents = (PurePosixPath(name).parts[:-1] for name in tracked())
    folders = {"/".join(parts[:depth]) for parts in parents for depth in (1, 2) if len(parts) >= depth}
    assert tree_of(drawn) == folders


def test_the_readme_is_short() -> None:
    assert len(read("README.md").splitlines()) < 150


@pytest.mark.parametrize("page", PAGES)
def test_every_job_in_the_documents_loads(page: str, tmp_path: Path) -> None:
    for i, text in enumerate(blocks(page, "yaml")):
        (path := tmp_path / f"{i}.yaml").write_text(text)
        job = load_job(path)
        assert isinstance(job, IngestJob | TrainJob | InferJob)
        if isinstance(job, TrainJob):
            _check_model(job)


def _check_model(job: TrainJob) -> None:
    from models import list_models

    (modality,) = (name for name in modalities.names() if job.model.name in list_models(name))
    options = inspect.signature(modalities.get(modality).prepare).parameters
    assert job.data.keys() <= options.keys()


def test_the_readme_has_the_three_minimal_jobs() -> None:
    kinds = [re.search(r"^kind: (\w+)", text)[1] for text in blocks("README.md", "yaml")]  # type: ignore[index]
    assert kinds == ["ingest", "train", "infer"]


@pytest.mark.parametrize("page", PAGES)
def test_every_python_example_compiles(page: str) -> None:
    for text in blocks(page, "python"):
        compile(text, page, "exec")


def test_the_guide_lists_every_stage_with_its_options() -> None:
    listed = {
        (modality, kind, how): set(re.findall(r"`(\w+)`", options))
        for modality, kind, how, options in tables(
            "docs/guide/ingest.md", "modality", "stage", "how", "options"
        )
    }
    there = {}
    for name in modalities.names():
        modality = modalities.get(name)
        stages = {("cut", how): cut.plan for how, cut in modality.cuts.items()}
        stages |= {("transform", how): change for how, change in modality.transforms.items()}
        for (kind, how), function in stages.items():
            parameters = inspect.signature(function).parameters.values()
            there[name, kind, how] = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert listed == there


def test_the_guide_lists_the_options_of_every_prepare() -> None:
    listed = {
        modality: set(re.findall(r"`(\w+)`", options))
        for modality, options, _ in tables("docs/guide/train.md", "modality", "options", "gives")
    }
    there = {
        name: set(inspect.signature(modalities.get(name).prepare).parameters) - {"arrays", "rng"}
        for name in modalities.names()
    }
    assert listed == there


def test_the_readme_names_every_modality() -> None:
    assert sorted(row[0] for row in tables("README.md", "modality", "reads", "kept")) == modalities.names()


def test_links_in_the_documents_lead_somewhere() -> None:
    for name in (path for path in tracked() if path.endswith(".md")):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", read(name)):
            assert ((ROOT / name).parent / target).exists(), f"{name} links to {target}"


def test_decisions_are_numbered_without_gaps_and_have_their_four_parts() -> None:
    decisions = sorted((ROOT / "docs/decisions").glob("*.md"))
    for number, path in enumerate(decisions, 1):
        assert re.fullmatch(rf"{number:04}-[a-z0-9-]+\.md", path.name)
        text = path.read_text()
        assert text.startswith(f"# {number}. ")
        assert re.findall(r"^\*\*(\w+)\.\*\*", text, re.MULTILINE) == [
            "Context",
            "Decision",
            "Consequence",
            "Alternatives",
        ]
        assert len(text.splitlines()) < 60, "a decision fits a page"


def test_every_mixer_is_tested_by_name() -> None:
    from models.mixers.base import MIXERS

    for name in MIXERS.names():
        assert (ROOT / f"tests/models/mixers/test_{name}.py").exists()


def test_tests_have_no_init_files() -> None:
    assert not [name for name in tracked() if name.startswith("tests/") and name.endswith("__init__.py")]


def test_tests_lie_where_what_they_test_lies() -> None:
    """The folder of a test is a folder of the rooms."""
    folders = {str(PurePosixPath(name).parent) for name in tracked() if name.startswith(ROOMS)}
    for name in tracked():
        parent = PurePosixPath(name).parent
        if name.startswith("tests/") and PurePosixPath(name).name.startswith("test_"):
            where = str(parent.relative_to("tests"))
            assert where == "." or where in folders, name


def test_no_file_is_called_by_what_it_is_not() -> None:
    for name in (name for name in tracked() if name.startswith(ROOMS)):
        assert not {part.partition(".")[0].strip("_") for part in PurePosixPath(name).parts} & NO_NOUN, name


def test_no_text_names_a_package_host_or_a_place_of_one_machine() -> None:
    """The words are put together here so that this file does not hold them itself."""
    hosts = ["py" + "pi.org", "python" + "hosted.org", "ana" + "conda.org", "conda-" + "forge", "npm" + "js."]
    places = re.compile("|".join([*map(re.escape, hosts), r"(?<![\w.])/" + r"(?:work|root)/"]))
    for name in tracked():
        content = (ROOT / name).read_bytes()
        if b"\0" in content[:8192]:
            continue
        found = places.search(content.decode("utf-8", "replace"))
        assert found is None, f"{name} holds {found and found[0]!r}"
