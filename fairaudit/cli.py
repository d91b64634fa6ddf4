"""The command line. Heavy imports stand inside the commands, so that `--help` answers at once."""

import os
import shutil
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer

from fairaudit import __version__
from fairaudit.cli_attribute import attribute
from fairaudit.cli_checks import diff, schema, selftest, verify
from fairaudit.cli_data import DataOption, DatasetOption, OutOption, SpecOption, data_app
from fairaudit.cli_masking import masking
from fairaudit.cli_mitigate import mitigate
from fairaudit.cli_options import (
    AcknowledgeOption,
    ByOption,
    CacheOption,
    DeviceOption,
    ModelSpecOption,
    TaskOption,
    TrustOption,
)
from fairaudit.cli_plan import PolicyOption, StrictOption, plan, power, verdicts_of
from fairaudit.cli_predict import join, predict
from fairaudit.cli_robustness import robustness
from fairaudit.errors import FairauditError, UsageError
from fairaudit.registry import lookup

app = typer.Typer(
    name="fairaudit",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Does this face model treat people equally, and how sure are we?\n\n"
    "Train or wrap a face classifier, audit it over race, gender, age and their intersections, mitigate, compare, "
    "and write HTML reports that open offline.\n\n"
    "Exit codes: 0 done, policies pass or none declared · 1 a policy fails (audit, run --enforce), or verify or "
    "selftest finds a mismatch · 2 wrong use or bad spec · 3 a policy stays inconclusive (only with --strict) · "
    "4 unusable data or checkpoint · 5 disk full, read-only or internal error · 130 interrupted (run the same command "
    "again to go on).",
)
app.add_typer(data_app, name="data")
for _command in (selftest, verify, diff, schema):
    app.command()(_command)
app.command()(power)
app.command()(plan)
app.command()(robustness)
app.command()(masking)
app.command()(mitigate)
app.command()(attribute)
app.command()(predict)
app.command()(join)


@app.callback(invoke_without_command=True)
def _options(version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False) -> None:
    if version:
        typer.echo(f"fairaudit {__version__}")
        raise typer.Exit


@app.command()
def demo(
    out: OutOption = Path("runs/demo"), seed: Annotated[int, typer.Option(help="Seed of the made-up faces.", min=0)] = 0
) -> None:
    """Made-up faces with planted bias: drawn, trained on, audited, mitigated and compared. CPU, no downloads.

    The planted biases are known, so the report says of each whether the audit found it, and in whom.
    """
    from fairaudit.console import Bars, say
    from fairaudit.files import claim
    from fairaudit.inputs import find_spec
    from fairaudit.pipeline import Run, run_demo
    from fairaudit.stages import RECORD

    claim(out, "run", RECORD)
    spec = find_spec(Path("demo"))[0].model_copy(update={"seed": seed})
    with Bars() as bars:
        index, planted = run_demo(Run(spec=spec, root=out / "faces", out=out, progress=bars, say=say))
    for line in planted:
        typer.echo(line["verdict"])
    typer.echo(f"Open {index}")


@app.command(name="run")
def run_command(
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
    from fairaudit.pipeline import Run, audits_of, run
    from fairaudit.stages import RECORD

    loaded, folder = find_spec(spec)
    if device:
        loaded = loaded.model_copy(update={"training": loaded.training.model_copy(update={"device": device})})
    require_folder(data)
    claim(out, "run", RECORD)
    with Bars() as bars:
        index = run(Run(spec=loaded, root=data, out=out, weights_folders=(folder,), progress=bars, say=say))
    code = verdicts_of(audits_of(loaded, out), strict, enforce)
    typer.echo(f"Open {index}")
    if code:
        raise typer.Exit(code)


@app.command()
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
    from fairaudit.models.parallel import speaks
    from fairaudit.pipeline import check_spec, describe_faces, mitigation_names, train_checkpoint
    from fairaudit.progress import silent
    from fairaudit.refit_stage import refits_heads

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


@app.command()
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
    from fairaudit.pipeline import Run
    from fairaudit.stages import RECORD
    from fairaudit.sweep import run_sweep

    loaded, folder = find_spec(spec)
    require_folder(data)
    claim(out, "run", RECORD)
    with Bars() as bars:
        job = Run(spec=loaded, root=data, out=out, weights_folders=(folder,), progress=bars, say=say)
        page, table = run_sweep(job, audit=audit)
    typer.echo(f"First: {table['name'].iloc[0]} (validation score {table['score'].iloc[0]:.4f})")
    typer.echo(f"Open {page}")


@app.command()
def audit(
    out: OutOption,
    predictions: Annotated[
        Path | None, typer.Option(help="CSV or Parquet table of anybody's predictions, or a folder of such files.")
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option(help="Checkpoint folder, model file or module:function; needs --data.")
    ] = None,
    model_spec: ModelSpecOption = None,
    trust_code: TrustOption = False,
    data: Annotated[Path | None, typer.Option(help="Folder of the faces.")] = None,
    spec: SpecOption = None,
    dataset: DatasetOption = None,
    split: Annotated[str, typer.Option(help="train, val, test, all or auto (with --checkpoint).")] = "auto",
    by: ByOption = None,
    task: TaskOption = None,
    rename: Annotated[
        list[str] | None, typer.Option(help="ours=theirs, such as gender_true=sex; repeat for several.")
    ] = None,
    value: Annotated[
        list[str] | None, typer.Option(help="column.theirs=ours, such as gender.Man=Male; repeat.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="What the report calls this audit.")] = None,
    min_group_size: Annotated[int | None, typer.Option(help="Smallest denominator that enters gaps.", min=1)] = None,
    adjust_for: Annotated[
        list[str] | None,
        typer.Option(
            "--adjust-for",
            help="Covariate (a column, or label_mix) at whose common mix gaps are compared, too; repeat for several.",
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            help="Your own f(y_true, y_pred) as module:function, installed or in this folder; its code is run. Repeat.",
        ),
    ] = None,
    selection: Annotated[
        str | None, typer.Option(help="task=class that means: selected (hired=yes); gives impact ratios.")
    ] = None,
    policy: PolicyOption = None,
    plan: Annotated[Path | None, typer.Option(help="Frozen plan (fairaudit plan): audit exactly as it says.")] = None,
    exploratory: Annotated[
        bool, typer.Option("--exploratory", help="Discover differences on one half of the faces, confirm on the other.")
    ] = False,
    strict: StrictOption = False,
    memory: Annotated[
        str | None, typer.Option(help="Count the table on disk in this much memory, such as 2GB (with --predictions).")
    ] = None,
    device: DeviceOption = "auto",
    cache: CacheOption = None,
    acknowledge: AcknowledgeOption = None,
    show_faces: Annotated[
        bool, typer.Option("--show-faces", help="Print thumbnails of wrongly labelled faces (needs --data).")
    ] = False,
) -> None:
    """Audit a table of predictions (no model, no torch, no spec needed), or a checkpoint on a folder of faces.

    Writes audit.json, metrics.csv, gaps.csv and the HTML report with one page a subgroup. Prints the verdict on each
    policy: exit code 1 where one fails, with --strict 3 where one stays inconclusive.
    """
    from fairaudit.audit import run_audit
    from fairaudit.console import Bars, say
    from fairaudit.files import claim
    from fairaudit.inputs import (
        audit_settings,
        find_spec,
        heads_of,
        keep_history,
        planned,
        predict_for_audit,
        read_table,
        refuse_unread,
        report_meta,
        require_folder,
        store,
        table_meta,
    )
    from fairaudit.policy_checks import check_names
    from fairaudit.report.render import render_audit

    if (predictions is None) == (checkpoint is None):
        raise UsageError("give either --predictions FILE or --checkpoint MODEL with --data FOLDER")
    if checkpoint is not None and data is None:
        raise UsageError("--checkpoint needs --data, the folder of the faces to audit it on")
    if show_faces and data is None:
        raise UsageError("--show-faces needs --data, the folder in which the faces lie")
    given = {"--dataset": dataset, "--split": split != "auto", "--device": device != "auto"}
    given |= {"--model-spec": model_spec, "--trust-code": trust_code, "--cache": cache is not None}
    given |= {"--data without --show-faces": data is not None and not show_faces}
    refuse_unread(
        given if predictions else {"--rename": rename, "--value": value, "--memory": memory}, bool(predictions)
    )
    if data is not None:
        require_folder(data)
    claim(out, "audit", "audit.json")
    loaded = find_spec(spec)[0] if spec else None
    stated = report_meta(loaded, acknowledge)
    settings = audit_settings(
        loaded, min_group_size, policy or (), exploratory, adjust_for or (), metric or (), selection
    )
    tasks, seed = task or (loaded.tasks if loaded and loaded.tasks else None), loaded.seed if loaded else 0
    plan_record: dict[str, Any] = {}
    if plan:
        fixed = {"--by": by, "--task": task, "--policy": policy, "--min-group-size": min_group_size}
        fixed |= {"--exploratory": exploratory, "--adjust-for": adjust_for}
        fixed |= {"--metric": metric, "--selection": [selection] if selection else None}
        settings, tasks, seed, plan_record = planned(plan, loaded, fixed, predictions)
    check_names(settings)
    faces_root = data
    table: Any
    with Bars() as bars:
        if checkpoint is not None and data is not None:
            from fairaudit.models.wrapped.opening import open_model

            model = open_model(checkpoint, model_spec, trust_code=trust_code)
            name = name or (str(model.meta["name"]) if model.stated else None)
            if not task and not plan:
                tasks = heads_of(model, tasks, say)
            table, meta, faces_root = predict_for_audit(model, data, dataset, spec, split, device, bars, cache)
        elif predictions is not None:
            table = read_table(predictions, loaded, rename or (), value or (), task, memory, bars)
            meta = table_meta()
        result = run_audit(
            table,
            tasks=tasks,
            by=by or settings.subgroups,
            audit=settings,
            seed=seed,
            name=name or (loaded.name if loaded else Path(predictions or checkpoint or out).stem),
            meta={**meta, **plan_record, "report": stated},
            progress=bars,
        )
        result = store(result, out, table)
        if checkpoint is not None:
            keep_history(Path(checkpoint), out)
        render_audit(out, out, faces_root=faces_root if show_faces else None)
    code = verdicts_of({result.meta["name"]: result}, strict)
    typer.echo(f"Open {out / 'index.html'}")
    if code:
        raise typer.Exit(code)


@app.command()
def compare(
    audits: Annotated[
        list[Path],
        typer.Argument(
            help="Audit folders, the baseline first, then one or more models; with several seeds NAME=AUDIT,AUDIT each."
        ),
    ],
    out: OutOption,
    by: ByOption = None,
    task: TaskOption = None,
    validation: Annotated[
        list[Path] | None,
        typer.Option(
            help="The baseline's predictions on validation faces, which name the subgroup to be helped; repeat a seed."
        ),
    ] = None,
    min_group_size: Annotated[int | None, typer.Option(help="Smallest denominator that enters gaps.", min=1)] = None,
    margin: Annotated[
        float,
        typer.Option(help="Loss of right predictions below which a subgroup counts as not harmed (0.02: 2 points)."),
    ] = 0.02,
) -> None:
    """Compare models on the same faces, paired by image: who was helped, who was harmed, did the gap close?

    Given as NAME=AUDIT,AUDIT,… (one audit a seed) whole methods are compared, seeds and faces both random.
    """
    from fairaudit.cli_methods import compare_groups, grouped
    from fairaudit.comparison import compare as compare_models
    from fairaudit.console import Bars
    from fairaudit.data.predictions import read_predictions
    from fairaudit.files import claim
    from fairaudit.inputs import audit_settings, model_names, read_histories, relative_link, stored_predictions
    from fairaudit.report.render import write_comparison_report
    from fairaudit.results import AuditResult

    groups = grouped(audits)
    if groups is not None:
        given = list(validation or ())
        compare_groups(groups, out, by=by, tasks=task, validation=given, min_group_size=min_group_size, margin=margin)
        return
    if len(validation or ()) > 1:
        raise UsageError("one checkpoint of the baseline has one table of validation predictions; give it once")
    if len(audits) < 2:
        raise UsageError(f"compare needs a baseline and at least one other audit folder; {len(audits)} was given")
    claim(out, "comparison", "comparison.json")
    results = dict(zip(model_names(audits), [AuditResult.load(folder) for folder in audits], strict=True))
    tables = [stored_predictions(folder) for folder in audits]
    names = list(results)
    first = results[names[0]]
    with Bars() as bars:
        comparison = compare_models(
            tables[0],
            dict(zip(names[1:], tables[1:], strict=True)),
            by=by or list(first.meta["subgroups"]),
            tasks=task,
            audit=audit_settings(None, min_group_size or int(first.meta["min_group_size"])),
            seed=int(first.meta["seed"]),
            validation=read_predictions(validation[0]) if validation else None,
            margin=margin,
            baseline_name=names[0],
            progress=bars,
        )
    comparison.save(out)
    links = {f"Audit of {name}": relative_link(folder, out) for name, folder in zip(names, audits, strict=True)}
    histories = read_histories(dict(zip(names, audits, strict=True)))
    seen = dict(zip(names, tables, strict=True))
    write_comparison_report(comparison, out, results=results, links=links, histories=histories, tables=seen)
    for sentences in comparison.meta["summary"].values():
        for sentence in sentences:
            typer.echo(sentence)
    typer.echo(f"Open {out / 'index.html'}")


@app.command()
def report(
    audit_folder: Annotated[Path, typer.Argument(metavar="AUDIT", help="Audit folder.")],
    out: OutOption,
    attribution: Annotated[Path | None, typer.Option(help="Folder that `fairaudit attribute` wrote.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the faces, for --show-faces.")] = None,
    acknowledge: AcknowledgeOption = None,
    hide_below: Annotated[
        int | None,
        typer.Option(
            "--hide-below",
            help="Hide figures of fewer faces than this, and further ones so that none can be worked out; for a folder "
            "that is passed on.",
            min=2,
        ),
    ] = None,
    show_faces: Annotated[
        bool, typer.Option("--show-faces", help="Print thumbnails of wrongly labelled faces.")
    ] = False,
    single_file: Annotated[
        bool, typer.Option("--single-file", help="Put every subgroup's page into index.html, to pass on one file.")
    ] = False,
) -> None:
    """Write the HTML report of an audit: index.html and one page a subgroup, readable offline."""
    from fairaudit.files import claim
    from fairaudit.report.render import render_audit
    from fairaudit.spec import acknowledgement
    from fairaudit.stages import RECORD

    if show_faces and data is None:
        raise UsageError("--show-faces needs --data, the folder in which the faces lie")
    if out.resolve() != audit_folder.resolve():
        claim(out, "report", "index.html")
        others = [
            name for name in ("audit.json", "comparison.json", "attribution.json", RECORD) if (out / name).exists()
        ]
        if others:
            raise UsageError(
                f"--out {out} holds results of its own ({others[0]}), which these pages do not show; give a new folder"
            )
    index = render_audit(
        audit_folder,
        out,
        attribution=attribution,
        faces_root=data if show_faces else None,
        acknowledged=acknowledgement(acknowledge) if acknowledge else "",
        below=hide_below,
        single=single_file,
    )
    typer.echo(f"Open {index}")


@app.command(name="list")
def list_command(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="audits, datasets, backbones, presets, metrics, mitigations, attributions, perturbations, schemes, "
            "schemas, sections."
        ),
    ] = None,
) -> None:
    """List what a spec may name."""
    from fairaudit.console import listings

    tables = listings()
    for name in [kind] if kind else list(tables):
        found = lookup(tables, name, "kind of thing to list")()
        if kind and any(": " in entry for entry in found):
            typer.echo("\n".join(found))
        else:
            typer.echo(f"{name}: {', '.join(entry.split(': ')[0] for entry in found)}")


_INTERRUPTED = "interrupted: run the same command again to go on where it stopped"
# typer's own class for wrong use (BadParameter → UsageError → ClickException), whichever click it is built on
_WRONG_USE: Any = typer.BadParameter.__mro__[2]


def main() -> None:
    """Run the command line; every error ends in a plain sentence and the exit code of its kind."""
    sys.exit(_guarded())


def _guarded() -> int:
    try:
        code = int(app(standalone_mode=False) or 0)
        return _stop(_INTERRUPTED, code) if code == 130 else code  # typer turns Ctrl-C into a silent 130
    except (typer.Abort, KeyboardInterrupt):
        return _stop(_INTERRUPTED, 130)
    except _WRONG_USE as error:
        error.show()
        return 2
    except FairauditError as error:
        return _stop(str(error), error.exit_code)
    except OSError as error:
        free = shutil.disk_usage(Path.cwd()).free if error.errno else 0
        return _stop(f"{error.strerror or error}: {error.filename or ''} ({free >> 20:,} MiB free here)", 5)
    except Exception as error:
        if os.environ.get("FAIRAUDIT_DEBUG"):
            traceback.print_exc()
        return _stop(f"internal error ({type(error).__name__}: {error}); set FAIRAUDIT_DEBUG=1 to see where", 5)


def _stop(message: str, code: int) -> int:
    typer.echo(f"fairaudit: {message}", err=True)
    return code
