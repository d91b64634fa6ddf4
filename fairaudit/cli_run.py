"""`fairaudit demo`, `run`, `train` and `sweep`: from a spec to models, audits and reports."""

from pathlib import Path
from typing import Annotated

import typer

from fairaudit.cli_options import DataOption, OutOption, StrictOption
from fairaudit.cli_plan import verdicts_of
from fairaudit.errors import UsageError
from fairaudit.registry import lookup


def demo(
    out: OutOption = Path("runs/demo"), seed: Annotated[int, typer.Option(help="Seed of the made-up faces.", min=0)] = 0
) -> None:
    """Made-up faces with planted bias: drawn, trained on, audited, mitigated and compared. CPU, no downloads.

    The planted biases are known, so the report says of each whether the audit found it, and in whom.
    """
    from fairaudit.console import Bars, say
    from fairaudit.files import claim
    from fairaudit.inputs import find_spec
    from fairaudit.pipeline import run_demo
    from fairaudit.stages import RECORD, Run

    claim(out, "run", RECORD, whole=False)
    spec = find_spec(Path("demo"))[0].model_copy(update={"seed": seed})
    with Bars() as bars:
        index, planted = run_demo(Run(spec=spec, root=out / "faces", out=out, progress=bars, say=say))
    for line in planted:
        typer.echo(line["verdict"])
    typer.echo(f"Open {index}")


def run_spec(
    spec: Annotated[Path, typer.Argument(help="TOML spec: a path, or the name of one that comes with fairaudit.")],
    data: DataOption,
    out: OutOption,
    device: Annotated[str | None, typer.Option(help="Overrides the spec's training.device.")] = None,
    enforce: Annotated[
        bool, typer.Option("--enforce", help="End with exit code 1 where a policy fails for any of the models.")
    ] = False,
    strict: StrictOption = False,
) -> None:
    """Train, predict, audit, attribute, mitigate, compare and report, as a spec says.

    Stages whose inputs are unchanged are skipped; after an interruption the same command goes on. Without --enforce a
    complete run ends with 0, whatever its policies say.
    """
    if strict and not enforce:
        raise UsageError("--strict says how --enforce ends; give both, or neither")
    from fairaudit.console import Bars, say
    from fairaudit.files import claim
    from fairaudit.inputs import find_spec, require_folder
    from fairaudit.pipeline import audits_of, run
    from fairaudit.stages import RECORD, Run

    loaded, folder = find_spec(spec)
    if device:
        loaded = loaded.model_copy(update={"training": loaded.training.model_copy(update={"device": device})})
    require_folder(data)
    claim(out, "run", RECORD, whole=False)
    with Bars() as bars:
        index = run(Run(spec=loaded, root=data, out=out, weights_folders=(folder,), progress=bars, say=say))
    code = verdicts_of(audits_of(loaded, out), strict, enforce)
    typer.echo(f"Open {index}")
    if code:
        raise typer.Exit(code)


def train(
    spec: Annotated[Path, typer.Argument(help="TOML spec.")],
    data: DataOption,
    out: OutOption,
    mitigation: Annotated[
        str | None, typer.Option(help="Train this mitigation of the spec instead of the baseline.")
    ] = None,
) -> None:
    """Train one checkpoint as a spec says (the baseline, or one of its mitigations).

    On several GPUs: torchrun --nproc-per-node 4 -m fairaudit train SPEC --data DIR --out DIR. Each process computes its
    share of every batch.
    """
    from fairaudit.console import Bars, say
    from fairaudit.files import claim
    from fairaudit.inputs import find_spec, load_and_split, require_folder
    from fairaudit.model_stages import describe_faces, train_checkpoint
    from fairaudit.models.parallel import speaks
    from fairaudit.progress import silent
    from fairaudit.refit_stage import refits_heads
    from fairaudit.run_checks import check_spec, mitigation_names

    loaded, folder = find_spec(spec)
    require_folder(data)
    claim(out, "checkpoint", "model.json")
    chosen = lookup(mitigation_names(loaded.mitigations), mitigation, "mitigation of this spec") if mitigation else None
    if chosen and refits_heads(chosen):
        raise UsageError(
            f"{chosen.method} refits the heads of a trained checkpoint: train the baseline, then `fairaudit mitigate "
            f"{spec} --checkpoint {out} --methods {chosen.method} --keep {chosen.method} …`"
        )
    check_spec(loaded, (folder,))
    if not speaks():  # one of several processes: the first one shows what all of them do
        faces = load_and_split(data, loaded, silent)
        train_checkpoint(loaded, faces, out, chosen, weights_folders=(folder,))
        return
    with Bars() as bars:
        faces = load_and_split(data, loaded, bars)
        describe_faces(faces, say)
        train_checkpoint(loaded, faces, out, chosen, weights_folders=(folder,), progress=bars, say=say)
    typer.echo(f"Checkpoint: {out}")


def sweep(
    spec: Annotated[Path, typer.Argument(help="TOML spec with a table `sweep`.")],
    data: DataOption,
    out: OutOption,
    audit: Annotated[
        bool, typer.Option("--audit", help="Audit the combination ranked first, and no other, on the test faces.")
    ] = False,
) -> None:
    """Train every combination of the values in a spec's table `sweep`, and rank them on the validation faces.

    Writes sweep.csv and index.html. Mitigations and attribution are for `fairaudit run` with the chosen values. What is
    done is skipped; after an interruption the same command goes on.
    """
    from fairaudit.console import Bars, say
    from fairaudit.files import claim
    from fairaudit.inputs import find_spec, require_folder
    from fairaudit.stages import RECORD, Run
    from fairaudit.sweep import run_sweep

    loaded, folder = find_spec(spec)
    require_folder(data)
    claim(out, "run", RECORD, whole=False)
    with Bars() as bars:
        job = Run(spec=loaded, root=data, out=out, weights_folders=(folder,), progress=bars, say=say)
        page, table = run_sweep(job, audit=audit)
    typer.echo(f"First: {table['name'].iloc[0]} (validation score {table['score'].iloc[0]:.4f})")
    typer.echo(f"Open {page}")
