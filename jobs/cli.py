"""The command line. Every command imports what it needs when it runs, so that help is quick."""

import shlex
import signal
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn, Optional

import typer

from jobs import failures
from jobs.heap import one_heap
from jobs.streams import leave, steady

JobFile = Annotated[Path, typer.Argument(metavar="JOB.yaml", help="The job file.")]
Overrides = Annotated[
    Optional[list[str]],  # noqa: UP045 - what typer reads
    typer.Argument(metavar="KEY.PATH=VALUE", help="Laid over the job file, in order."),
]
DatasetPlace = Annotated[str, typer.Argument(metavar="DATASET", help="Path or URL of a dataset.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
OutputFile = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--output", "-o", metavar="FILE", help="Write here instead of to the terminal."),
]

SETTINGS: dict[str, Any] = {
    "no_args_is_help": True,
    "rich_markup_mode": None,  # plain text: quick to print, and the same in a log
    "pretty_exceptions_enable": False,
    "add_completion": False,
}
app = typer.Typer(help="Raw multimodal data to training shards to trained models, on Ray.", **SETTINGS)
config = typer.Typer(help="What a job file may say, and what one does say.", **SETTINGS)
zoo = typer.Typer(help="The models there are.", **SETTINGS)
doctor = typer.Typer(help="What is wrong with this machine.", **SETTINGS)
for _name, _part in (("config", config), ("zoo", zoo), ("doctor", doctor)):
    app.add_typer(_part, name=_name)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run a command and leave with its exit code: 0, 2, 3, 4, 5 or 130."""
    if alone := arguments is None:
        arguments = sys.argv[1:]
        steady()
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]  # allowed anywhere
    code: Any = failures.OK
    try:
        app(arguments, prog_name="rayloom")
    except SystemExit as e:
        code = e.code
    except Exception as e:
        code = failures.report(e, debug=debug)
    if alone and isinstance(code, int):
        leave(code)
    sys.exit(code)


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of every error.")] = False,
) -> None:
    """Only declares the option for the help; `main` takes it wherever it stands."""


@app.command()
def run(job_file: JobFile, overrides: Overrides = None) -> None:
    """Run a job on local Ray, or on the cluster that RAY_ADDRESS names."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler interrupts as Ctrl-C does
    try:
        from jobs.config import load_job

        job = load_job(job_file, overrides or ())
        match job.kind:
            case "ingest":
                one_heap()
                from jobs import ingest

                code = ingest.run(job)
            case "train":
                from jobs import train

                code = train.run(job)
            case "infer":
                from jobs import infer

                code = infer.run(job)
    except KeyboardInterrupt:
        again = shlex.join(["rayloom", "run", str(job_file), *(overrides or ())])
        typer.echo(f"interrupted; what is finished is kept, to go on: {again}", err=True)
        code = failures.INTERRUPTED
    raise typer.Exit(code)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the job files go.")],
    force: Annotated[bool, typer.Option("--force", help="Overwrite job files that are there.")] = False,
) -> None:
    """Write commented job files for every kind of data: ingest, train, infer."""
    from jobs.init import write

    for path in write(folder, force=force):
        typer.echo(path)


@app.command("ls")
def list_samples(
    dataset: DatasetPlace,
    as_json: AsJson = False,
    limit: Annotated[Optional[int], typer.Option(min=1, help="At most this many samples.")] = None,  # noqa: UP045
) -> None:
    """List the samples of a dataset."""
    from jobs import dataset as command

    raise typer.Exit(command.ls(dataset, as_json=as_json, limit=limit))


@app.command()
def cat(
    dataset: DatasetPlace,
    key: Annotated[str, typer.Argument(help="Key of the sample, as `ls` prints it.")],
    member: Annotated[Optional[str], typer.Option(help="Only this file of it: jpg, json, ...")] = None,  # noqa: UP045
    output: OutputFile = None,
) -> None:
    """Take one sample out of a dataset."""
    from jobs import dataset as command

    raise typer.Exit(command.cat(dataset, key, member=member, output=output))


@app.command()
def stats(
    dataset: DatasetPlace,
    form: Annotated[str, typer.Option("--format", help="text, json or html.")] = "text",
    output: OutputFile = None,
) -> None:
    """Describe a dataset: counts, sizes, classes, quality."""
    forms = ("text", "json", "html")
    if form not in forms:
        raise typer.BadParameter(f"{form!r} is none of {', '.join(forms)}", param_hint="--format")
    from jobs import dataset as command

    raise typer.Exit(command.stats(dataset, form=form, output=output))


def _share(value: str | float) -> float:
    text = str(value)
    share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    if not 0 <= share <= 1:
        raise typer.BadParameter(f"want a share from 0% to 100%, got {text}")
    return share


@app.command()
def check(
    dataset: DatasetPlace,
    as_json: AsJson = False,
    sample: Annotated[
        float, typer.Option(parser=_share, metavar="SHARE", help="Share of the shards to read: 10% or 0.1.")
    ] = 1.0,
    seed: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Which shards a share takes; another number every time without it."),
    ] = None,
) -> None:
    """Verify every digest of a dataset."""
    from jobs import dataset as command

    raise typer.Exit(command.check(dataset, as_json=as_json, sample=sample, seed=seed))


@app.command()
def export(
    dataset: DatasetPlace, folder: Annotated[Path, typer.Argument(help="Where to write the lists.")]
) -> None:
    """Write lists of shards that plain WebDataset readers take; nothing is copied."""
    from pipelines.loading.export import export as write_lists
    from pipelines.shards.dataset import Dataset

    for path in write_lists(Dataset.open(dataset), folder):
        typer.echo(path)


@app.command()
def repair(dataset: DatasetPlace, as_json: AsJson = False) -> None:
    """Rebuild what is damaged from the sources, with the same bytes."""
    from jobs import storage as command

    raise typer.Exit(command.repair(dataset, as_json=as_json))


@app.command()
def replay(
    dataset: DatasetPlace,
    reason: Annotated[Optional[str], typer.Option(help="Only what was refused for this reason.")] = None,  # noqa: UP045
    source: Annotated[Optional[str], typer.Option(help="Look there, this once.")] = None,  # noqa: UP045
) -> None:
    """Look again at what lies in quarantine, after a fix, and at nothing else."""
    from jobs import storage as command

    raise typer.Exit(command.replay(dataset, reason=reason, source=source))


@app.command()
def gc(
    dataset: DatasetPlace,
    older_than: Annotated[
        float, typer.Option("--older-than", metavar="HOURS", min=0.0, help="Keep what is younger.")
    ] = 168.0,
    dry: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove what no snapshot names: leftovers of runs that died, uploads that never ended."""
    from jobs import storage as command

    raise typer.Exit(command.gc(dataset, older_than_h=older_than, dry=dry, as_json=as_json))


@app.command()
def diff(
    first: Annotated[str, typer.Argument(metavar="A", help="DATASET, or DATASET@3 for its snapshot 3.")],
    second: Annotated[str, typer.Argument(metavar="B", help="The same.")],
    as_json: AsJson = False,
) -> None:
    """What B has and A has not: samples added, removed, changed. Exit code 1 when they differ."""
    from jobs import storage as command

    raise typer.Exit(command.diff(first, second, as_json=as_json))


@app.command()
def duplicates(
    datasets: Annotated[
        list[str], typer.Argument(metavar="DATASET...", help="Datasets, or DATASET@3; the first ones keep.")
    ],
    distance: Annotated[
        int, typer.Option(min=0, max=16, help="Bits in which fingerprints may differ; 0: the same only.")
    ] = 6,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--output", "-o", metavar="FILE.parquet", help="Write every duplicate, a row each."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What datasets have twice, in themselves and in each other. Exit code 1 when there is any."""
    from jobs import duplicates as command

    raise typer.Exit(command.run(datasets, distance=distance, output=output, as_json=as_json))


@config.command("schema")
def config_schema(
    kind: Annotated[Optional[str], typer.Argument(help="ingest, train or infer; all without it.")] = None,  # noqa: UP045
) -> None:
    """Print the JSON Schema, for editors."""
    from jobs.config.display import schema_text

    typer.echo(schema_text(kind))


@config.command("explain")
def config_explain(
    field: Annotated[Optional[str], typer.Argument(help="Such as shards.max_bytes; all without it.")] = None,  # noqa: UP045
) -> None:
    """Say what a field means, what it may be and what it is by default."""
    from jobs.config.display import explain_text

    typer.echo(explain_text(field))


@config.command("resolve")
def config_resolve(job_file: JobFile, overrides: Overrides = None) -> None:
    """Print the whole job with every default, and where each value comes from."""
    from jobs.config.display import resolved_text
    from jobs.config.load import load_with_places

    typer.echo(resolved_text(*load_with_places(job_file, overrides or ())), nl=False)


@zoo.command("list")
def zoo_list(as_json: AsJson = False) -> None:
    """List the models: system, part, kind of data, parameters, mixers."""
    from jobs.zoo import list_text, models

    rows = models()
    typer.echo(_text(rows, as_json) if as_json else list_text(rows))


@zoo.command("show")
def zoo_show(
    name: Annotated[str, typer.Argument(help="A system, a model or a mixer.")], as_json: AsJson = False
) -> None:
    """Show what a system, a model or a mixer is, costs and comes from."""
    from jobs.zoo import show

    typer.echo(_text(show(name), as_json))


@zoo.command("docs")
def zoo_docs(
    path: Annotated[Path, typer.Argument(help="Where to write the page.")] = Path("docs/zoo.md"),
) -> None:
    """Write the tables of all systems and mixers."""
    from jobs.zoo import write_document

    write_document(path)


@zoo.command("bench")
def zoo_bench(
    names: Annotated[Optional[list[str]], typer.Argument(help="Mixers; all without it.")] = None,  # noqa: UP045
    output: Annotated[
        Optional[Path], typer.Option(help="Folder for mixers.json and a plot.")  # noqa: UP045
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    as_json: AsJson = False,
) -> None:
    """Measure mixers: time and memory against tokens, the share of the machine's limit, the backend taken."""
    import torch

    from jobs.bench.mixers import bench, table, write
    from models.mixers.base import MIXERS

    result = bench(names or MIXERS.names(), torch.device(device))
    typer.echo(_text(result, True) if as_json else table(result))
    if output is not None:
        write(result, output)


@doctor.command("storage")
def doctor_storage(
    url: Annotated[str, typer.Argument(metavar="URL", help="Folder or URL where datasets shall lie.")],
    as_json: AsJson = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Without the large object (101 MiB, twice).")
    ] = False,
) -> None:
    """Try whether a storage keeps what datasets rest on. Exit code 4 when it does not."""
    from jobs import storage as command

    raise typer.Exit(command.doctor(url, as_json=as_json, large=not quick))


@doctor.command("libs")
def doctor_libs(as_json: AsJson = False) -> None:
    """Versions of the native libraries, what is missing, and which Debian package has it."""
    from jobs.libraries import check_libraries

    raise typer.Exit(check_libraries(as_json=as_json))


def _text(value: Any, as_json: bool) -> str:
    if as_json:
        import json

        return json.dumps(value)
    if isinstance(value, dict):
        return "\n".join(f"{name:<16} {item}" for name, item in value.items())
    return "\n".join(str(item) for item in value) if isinstance(value, list) else str(value)


if __name__ == "__main__":
    main()
