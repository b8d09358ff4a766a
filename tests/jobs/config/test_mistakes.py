"""Each row is a mistake somebody will make: the place, the path, the cause and the help that answer it."""

from pathlib import Path

import pytest

from jobs.config import ConfigError, load_job

INGEST = "kind: ingest\nmodality: image\nsource: {uri: raw}\noutput: out\n"
TRAIN = "kind: train\ndataset: d\ntask: classification\nmodel: {name: swin_tiny}\nsteps: 100\noutput: run\n"
INFER = "kind: infer\ndataset: d\ncheckpoint: run\noutput: p\n"
KEY = "AKIA" + "IOSFODNN7EXAMPLE"
TOKEN = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3"

# what is wrong: (file, overrides, place in the file or "", path, cause)
TABLE = {
    "typo in a section": (
        INGEST + "shards:\n  max_byts: 5\n",
        [],
        "6:3",
        "shards.max_byts",
        "unknown field; did you mean 'max_bytes'?  (got 5)",
    ),
    "typo at the top": (
        INFER + "batchsize: 8\n",
        [],
        "5:1",
        "batchsize",
        "unknown field; did you mean 'batch_size'?  (got 8)",
    ),
    "typo of a required field": (
        INFER.replace("checkpoint", "chekpoint"),
        [],
        "3:1",
        "chekpoint",
        "unknown field; did you mean 'checkpoint'?",
    ),
    "hyphen for underscore": (
        TRAIN + "batch-size: 4\n",
        [],
        "7:1",
        "batch-size",
        "unknown field; did you mean 'batch_size'?",
    ),
    "upper case": (TRAIN + "Seed: 4\n", [], "7:1", "Seed", "unknown field; did you mean 'seed'?"),
    "field in the wrong section": (
        INGEST + "max_bytes: 5MiB\n",
        [],
        "5:1",
        "max_bytes",
        "did you mean 'shards.max_bytes'?",
    ),
    "field of another kind of job": (
        INGEST + "steps: 5\n",
        [],
        "5:1",
        "steps",
        "a job of kind train has it, kind here is ingest",
    ),
    "unknown field like no other": (
        INFER + "zzz: 5\n",
        [],
        "5:1",
        "zzz",
        "unknown field; known are kind, dataset, checkpoint",
    ),
    "wrong modality": (
        INGEST.replace("image", "hyperspectal"),
        [],
        "2:11",
        "modality",
        "must be one of image, video, pointcloud, hyperspectral, lighting; did you mean 'hyperspectral'?",
    ),
    "wrong task": (
        TRAIN.replace("classification", "classify"),
        [],
        "3:7",
        "task",
        "did you mean 'classification'?",
    ),
    "wrong kind": (
        INGEST.replace("ingest", "injest"),
        [],
        "1:7",
        "kind",
        "must be one of ingest, train, infer; did you mean 'ingest'?  (got 'injest')",
    ),
    "no kind": (
        "modality: image\n",
        [],
        "1:1",
        "kind",
        "missing; a job needs kind: one of ingest, train, infer",
    ),
    "misspelt word kind": ("kid: ingest\n", [], "1:1", "kind", "is 'kid' meant to be it?"),
    "kind is a list": ("kind: [ingest]\n", [], "1:7", "kind", "must be one of ingest, train, infer"),
    "missing field": (
        INFER.replace("checkpoint: run\n", ""),
        [],
        "1:1",
        "checkpoint",
        "missing; add checkpoint: ...",
    ),
    "missing field of a section": (
        TRAIN.replace("{name: swin_tiny}", "{options: {depth: 2}}"),
        [],
        "4:1",
        "model.name",
        "missing; add name: ...",
    ),
    "text for a number": (
        TRAIN.replace("100", "many"),
        [],
        "5:8",
        "steps",
        "must be a whole number  (got 'many')",
    ),
    "quoted number": (
        TRAIN.replace("100", "'100'"),
        [],
        "5:8",
        "steps",
        "must be a whole number; take the quotes away",
    ),
    "fraction for a count": (
        TRAIN.replace("100", "1.5"),
        [],
        "5:8",
        "steps",
        "must be a whole number  (got 1.5)",
    ),
    "true for a count": (
        TRAIN.replace("100", "true"),
        [],
        "5:8",
        "steps",
        "must be a whole number  (got true)",
    ),
    "negative steps": (TRAIN.replace("100", "-5"), [], "5:8", "steps", "must be greater than 0  (got -5)"),
    "null for a count": (
        TRAIN.replace("100", "null"),
        [],
        "5:8",
        "steps",
        "must be a whole number  (got null)",
    ),
    "number for text": (
        TRAIN.replace("dataset: d", "dataset: 7"),
        [],
        "2:10",
        "dataset",
        "must be text; put it in quotes",
    ),
    "yes for true": (TRAIN + "resume: yes\n", [], "7:9", "resume", "must be true or false  (got 'yes')"),
    "infinite learning rate": (
        TRAIN + "learning_rate: .inf\n",
        [],
        "7:16",
        "learning_rate",
        "must be a finite number",
    ),
    "learning rate of zero": (
        TRAIN + "learning_rate: 0\n",
        [],
        "7:16",
        "learning_rate",
        "must be greater than 0",
    ),
    "share above one": (INGEST + "split: {val: 1.5}\n", [], "5:14", "split.val", "must be 1 or less"),
    "shares that leave nothing": (
        INGEST + "split: {val: 0.5, test: 0.5}\n",
        [],
        "5:8",
        "split",
        "val + test is 1; it must leave a share",
    ),
    "list for a mapping": (
        INGEST + "shards: [1, 2]\n",
        [],
        "5:9",
        "shards",
        "must be a mapping (name: value)  (got a list)",
    ),
    "text for a mapping": (INGEST.replace("{uri: raw}", "raw"), [], "3:9", "source", "must be a mapping"),
    "mapping for a list": (INGEST + "stages: {kind: cut}\n", [], "5:9", "stages", "must be a list (- item)"),
    "unknown unit": (
        INGEST + "shards: {max_bytes: 256MB8}\n",
        [],
        "5:21",
        "shards.max_bytes",
        "is not a size; write bytes or",
    ),
    "unit that does not exist": (
        INGEST + "shards: {max_bytes: 256Mo}\n",
        [],
        "5:21",
        "shards.max_bytes",
        "has the unit 'Mo'; known are B, KB, MB",
    ),
    "size of zero": (
        INGEST + "shards: {max_bytes: 0}\n",
        [],
        "5:21",
        "shards.max_bytes",
        "must be greater than 0",
    ),
    "wrong kind of stage": (
        INGEST + "stages:\n  - kind: filtr\n",
        [],
        "6:11",
        "stages.0.kind",
        "must be one of filter, cut, transform; did you mean 'filter'?",
    ),
    "stage without kind": (
        INGEST + "stages:\n  - how: tiles\n",
        [],
        "6:5",
        "stages.0.kind",
        "missing; kind is one of filter, cut, transform",
    ),
    "stage that is a word": (INGEST + "stages: [tiles]\n", [], "5:10", "stages.0", "must be a mapping"),
    "typo in a stage": (
        INGEST + "stages:\n  - {kind: filter, field: label, oneof: [a]}\n",
        [],
        "6:34",
        "stages.0.oneof",
        "unknown field; did you mean 'one_of'?",
    ),
    "filter that tests nothing": (
        INGEST + "stages:\n  - {kind: filter, field: label}\n",
        [],
        "6:5",
        "stages.0",
        "needs at least one of min, max",
    ),
    "filter that keeps nothing": (
        INGEST + "stages:\n  - {kind: filter, field: quality.blur, min: 3, max: 1}\n",
        [],
        "6:5",
        "stages.0",
        "min is 3, above max, which is 1",
    ),
    "filter of an unknown field": (
        INGEST + "stages:\n  - {kind: filter, field: qualty.blur, min: 3}\n",
        [],
        "6:27",
        "stages.0.field",
        "write quality.NAME, meta.NAME, label or caption; did you mean 'quality'?",
    ),
    "number test of text": (
        INGEST + "stages:\n  - {kind: filter, field: label, min: 3}\n",
        [],
        "6:5",
        "stages.0",
        "use one_of or not_one_of",
    ),
    "quality without decode": (
        INGEST + "decode: false\nstages: [{kind: filter, field: quality.blur, min: 3}]\n",
        [],
        "1:1",
        "",
        "needs decode: true",
    ),
    "list in a list of values": (
        INGEST + "stages:\n  - {kind: filter, field: label, one_of: [a, [b]]}\n",
        [],
        "6:46",
        "stages.0.one_of.1",
        "must be one text, number or true/false",
    ),
    "both origins": (
        INGEST.replace("{uri: raw}", "{uri: raw, synth: 3}"),
        [],
        "3:9",
        "source",
        "needs exactly one of uri and synth",
    ),
    "no origin": (
        INGEST.replace("{uri: raw}", "{}"),
        [],
        "3:9",
        "source",
        "needs exactly one of uri and synth",
    ),
    "unknown scheme": (
        INGEST.replace("raw", "s4://b/x"),
        [],
        "3:15",
        "source.uri",
        "has the scheme 's4'; known are file, s3",
    ),
    "shell command": (INGEST.replace("raw", "'pipe:cat x'"), [], "3:15", "source.uri", "is a shell command"),
    "chained URL": (
        INGEST.replace("raw", "'zip://a::s3://b/c.zip'"),
        [],
        "3:15",
        "source.uri",
        "is a chained URL (::)",
    ),
    "output to the web": (
        INGEST.replace("out\n", "https://host/out\n"),
        [],
        "4:9",
        "output",
        "is read-only over http",
    ),
    "output into memory": (
        INGEST.replace("out\n", "memory://out\n"),
        [],
        "4:9",
        "output",
        "is memory of one process, which workers do not see",
    ),
    "source in memory": (
        INGEST.replace("raw", "'memory://x'"),
        [],
        "3:15",
        "source.uri",
        "is memory of one process, which workers do not see",
    ),
    "name of a source": (
        INGEST.replace("{uri: raw}", "{uri: raw, name: a/b}"),
        [],
        "3:26",
        "source.name",
        "must be 1 to 60 of the characters A-Z a-z 0-9 _ -",
    ),
    "empty place": (INGEST.replace("out\n", "''\n"), [], "4:9", "output", "is empty; give a local path"),
    "password in a URL": (
        INGEST.replace("raw", "'https://me:hunter2@host/x'"),
        [],
        "3:15",
        "source.uri",
        "looks like a password in a URL",
    ),
    "signed URL": (
        INGEST.replace("raw", "'https://host/x?X-Amz-Signature=0123456789'"),
        [],
        "3:15",
        "source.uri",
        "looks like a signature or token in a URL",
    ),
    "cloud key": (
        INGEST + f"aws_key: {KEY}\n",
        [],
        "5:10",
        "aws_key",
        "looks like an AWS access key; keep it in the env",
    ),
    "token in an option": (
        TRAIN + f"data: {{hub: {TOKEN}}}\n",
        [],
        "7:13",
        "data.hub",
        "looks like a GitHub token",
    ),
    "secret by its name": (
        TRAIN + "data: {access_token: Zx81kQ0pLw93nVbTyR5e}\n",
        [],
        "7:22",
        "data.access_token",
        "looks like a secret",
    ),
    "key twice": (INGEST + "seed: 1\nseed: 2\n", [], "6:1", "seed", "the key stands twice, first on line 5"),
    "tab": (INGEST + "shards:\n\tmax_samples: 3\n", [], "6:1", "", "a tab; YAML is indented with spaces"),
    "wrong indentation": (INGEST + "seed: 1\n  decode: true\n", [], "6:9", "", "check the indentation"),
    "open bracket": (INGEST + "stages: [\n", [], "6:1", "", "not YAML"),
    "python object": (
        INGEST + "seed: !!python/object/apply:os.getpid []\n",
        [],
        "5:7",
        "seed",
        "the tag !!python/object/apply:os.getpid is not allowed",
    ),
    "merge key": (
        INGEST + "shards: &a {shuffle: true}\nsplit: {<<: *a}\n",
        [],
        "6:9",
        "split.<<",
        "or a merge key (<<)",
    ),
    "number as a key": (INGEST + "3: x\n", [], "5:1", "3", "a key must be a word, not a number"),
    "empty file": ("# nothing\n", [], "1:1", "", "the file is empty; `rayloom init DIR` writes job files"),
    "list as a file": ("- kind: ingest\n", [], "1:1", "", "a job file is a mapping"),
    "two documents": (INGEST + "---\n" + INGEST, [], "5:1", "", "one job file is one job"),
    "option that is nested too deep": (
        TRAIN + "data: {size: [[1]]}\n",
        [],
        "7:7",
        "data",
        "the option 'size' must be one value or a flat list",
    ),
    "warm-up longer than training": (
        TRAIN + "warmup_steps: 200\n",
        [],
        "1:1",
        "",
        "warmup_steps is 200, more than steps",
    ),
    "target without regression": (TRAIN + "target: x\n", [], "1:1", "", "target is for task: regression"),
    "batch that cannot be shared": (
        TRAIN + "workers: 3\n",
        [],
        "1:1",
        "",
        "batch_size 16 does not divide among 3",
    ),
    "cut of another modality": (
        INGEST + "stages:\n  - {kind: cut, how: clips}\n",
        [],
        "6:22",
        "stages.0.how",
        "no cut of image; known are",
    ),
    "misspelt transform": (
        INGEST + "stages:\n  - {kind: transform, how: resise}\n",
        [],
        "6:28",
        "stages.0.how",
        "no transform of image; known are",
    ),
    "override without a value": (INGEST, ["seed"], "", "", "an override is written key.path=value"),
    "override of a misspelt field": (
        INGEST,
        ["shards.max_byts=5"],
        "",
        "shards.max_byts",
        "unknown field; did you mean 'max_bytes'?",
    ),
    "override of a wrong type": (TRAIN, ["steps=abc"], "", "steps", "must be a whole number  (got 'abc')"),
    "override below a value": (
        TRAIN,
        ["steps.x=1"],
        "",
        "steps.x",
        "steps is a single value, it has nothing below it",
    ),
    "override of an item that is not there": (
        INGEST,
        ["stages=[{kind: cut, how: x}]", "stages.4.how=y"],
        "",
        "stages.4",
        "has 1 items, 0 to 0; there is no '4'",
    ),
    "override with an empty name": (
        INGEST,
        ["shards..max_bytes=1"],
        "",
        "shards..max_bytes",
        "an empty name in the path",
    ),
    "override that is not YAML": (INGEST, ["seed=[1"], "", "seed", "not YAML"),
    "override with a secret": (
        INGEST,
        [f"source.token={TOKEN}"],
        "",
        "source.token",
        "looks like a GitHub token",
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_a_mistake_is_answered_with_its_place_its_path_and_its_cause(name: str, tmp_path: Path) -> None:
    text, overrides, at, path, cause = TABLE[name]
    file = tmp_path / "job.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_job(file, overrides)
    lines = str(caught.value).splitlines()
    assert len(lines) == 1, lines  # one mistake, one line: nothing follows from it
    place, _, rest = lines[0].partition("  ")
    if at:
        assert place == f"{file}:{at}"
    else:
        assert place.startswith("override ")
        assert overrides[-1].partition("=")[0] in place
    if path:
        assert rest.startswith(f"{path}  ")
    assert cause in rest


def test_secrets_are_not_repeated(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    for text, overrides in ((INGEST, [f"source.token={TOKEN}"]), (INGEST + f"x: {TOKEN}\n", [])):
        file.write_text(text)
        with pytest.raises(ConfigError) as caught:
            load_job(file, overrides)
        assert "GitHub token" in str(caught.value)
        assert TOKEN[4:] not in str(caught.value)


def test_every_mistake_is_reported_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("kind: train\ndatset: d\ntask: x\nmodel: {nme: y}\nsteps: -1\noutput: ftp://x/y\n")
    with pytest.raises(ConfigError) as caught:
        load_job(file, ["seed=x"])
    places = [(mistake.place.line, mistake.path) for mistake in caught.value.mistakes]
    assert places == [(0, "seed"), (2, "datset"), (3, "task"), (4, "model.nme"), (5, "steps"), (6, "output")]


def test_a_file_that_is_not_there_suggests_one_that_is(tmp_path: Path) -> None:
    (tmp_path / "ingest.yaml").write_text(INGEST)
    with pytest.raises(ConfigError, match=r"ingset\.yaml:1:1  no such file; did you mean 'ingest\.yaml'\?"):
        load_job(tmp_path / "ingset.yaml")


def test_a_file_of_bytes_or_of_megabytes_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_bytes(b"kind: ingest\nmodality: \xff\n")
    with pytest.raises(ConfigError, match=r"job\.yaml:2:1  not UTF-8: byte 0xff"):
        load_job(file)
    file.write_bytes(b"#" * (2**20 + 1))
    with pytest.raises(ConfigError, match="larger than 1,048,576 bytes"):
        load_job(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_job(tmp_path)
