"""Check what stages ask for by name against what the modality offers, before anything starts."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jobs.config.document import Document
from jobs.config.mistakes import Mistake, Path, dotted, show, suggest
from jobs.config.schema import Cut, IngestJob, Job, Transform


def check_names(job: Job, document: Document) -> Iterator[Mistake]:
    """Cuts and transforms that the modality does not have, and options that they do not take."""
    if not isinstance(job, IngestJob) or not any(isinstance(stage, Cut | Transform) for stage in job.stages):
        return
    import modalities

    modality = modalities.get(job.modality)
    for index, stage in enumerate(job.stages):
        if isinstance(stage, Cut):
            functions: Mapping[str, Callable[..., Any]] = {k: cut.plan for k, cut in modality.cuts.items()}
        elif isinstance(stage, Transform):
            functions = modality.transforms
        else:
            continue
        path: Path = ("stages", index, "how")
        if stage.how not in functions:
            known = ", ".join(sorted(functions)) or "none"
            cause = f"no {stage.kind} of {job.modality}; known are {known}{suggest(stage.how, functions)}"
            yield Mistake(document.place(path, value=True), dotted(path), cause, show(stage.how))
            continue
        yield from _options(stage, ("stages", index, "options"), functions[stage.how], document)


def _options(
    stage: Cut | Transform, path: Path, function: Callable[..., Any], document: Document
) -> Iterator[Mistake]:
    parameters = inspect.signature(function).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return
    known = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    for name, value in stage.options.items():
        if name not in known:
            cause = (
                f"unknown option of {stage.how}{suggest(name, known)}; known are {', '.join(known) or 'none'}"
            )
            yield Mistake(document.place((*path, name)), dotted((*path, name)), cause, show(value))
