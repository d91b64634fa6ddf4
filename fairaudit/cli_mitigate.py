"""`fairaudit mitigate`: which method helps whom, at whose cost, and how sure that is."""

from pathlib import Path
from typing import Annotated

import typer

from fairaudit.cli_options import DataOption, OutOption
from fairaudit.errors import UsageError


def mitigate(
    spec: Annotated[Path, typer.Argument(help="TOML spec: a path, or the name of one that comes with fairaudit.")],
    data: DataOption,
    out: OutOption,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="Refit the heads of this trained checkpoint. Default: the spec's pretrained backbone."),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(help="Names, separated by commas (`fairaudit list mitigations`). Default: all that can be used."),
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Repetitions; fewer than 3 recommend nothing.", min=1)] = None,
    by: Annotated[str | None, typer.Option(help="Axis whose subgroups are to be treated alike, such as race.")] = None,
    task: Annotated[list[str] | None, typer.Option("--task", help="Head; repeat for several.")] = None,
    keep: Annotated[
        str | None, typer.Option(help="Method whose heads (first seed) become the checkpoint OUT/checkpoints/METHOD.")
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder (at most 20 GB) that keeps embeddings for the next command; they identify people."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="Overrides the spec's training.device.")] = None,
) -> None:
    """Methods × seeds on embeddings that are computed once: which method helps whom, at whose cost, how sure?

    Only heads are trained. Everything is fitted and chosen on training and validation faces; the test faces are opened
    last, once. Settings are the spec's table `mitigate`. What is done is skipped; after an interruption the same
    command goes on.
    """
    from fairaudit.console import Bars, say
    from fairaudit.inputs import find_spec, require_folder
    from fairaudit.mitigate import run_mitigate
    from fairaudit.mitigate_plan import Mitigating
    from fairaudit.models.checkpoint import load_checkpoint
    from fairaudit.stages import Run

    loaded, folder = find_spec(spec)
    given = {"methods": _names(methods), "seeds": seeds, "by": by, "tasks": tuple(task) if task else None}
    changed = loaded.mitigate.model_copy(update={key: value for key, value in given.items() if value})
    training = loaded.training.model_copy(update={"device": device} if device else {})
    loaded = loaded.model_copy(update={"mitigate": changed, "training": training})
    require_folder(data)
    base = load_checkpoint(checkpoint) if checkpoint else None
    with Bars() as bars:
        job = Run(spec=loaded, root=data, out=out, weights_folders=(folder,), progress=bars, say=say)
        page, lines = run_mitigate(Mitigating(job=job, checkpoint=base, cache=cache), keep=keep)
    for line in lines:
        typer.echo(line)
    if keep:
        typer.echo(f"Checkpoint: {out / 'checkpoints' / keep}")
    typer.echo(f"Open {page}")


def _names(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    names = tuple(name.strip() for name in text.split(","))
    if not all(names) or len(set(names)) < len(names):
        raise UsageError(f"--methods {text!r}: give different names, separated by commas")
    return names
