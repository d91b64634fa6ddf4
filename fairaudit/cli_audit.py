"""`fairaudit audit`: a table of predictions, or a model on a folder of faces, becomes tables and pages."""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from fairaudit.cli_options import (
    AcknowledgeOption,
    ByOption,
    CacheOption,
    DatasetOption,
    DeviceOption,
    ModelSpecOption,
    OutOption,
    PolicyOption,
    SpecOption,
    StrictOption,
    TaskOption,
    TrustOption,
)
from fairaudit.cli_plan import verdicts_of
from fairaudit.errors import UsageError


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
        keeping_predictions,
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

    of_models = {"--dataset": dataset, "--split": split != "auto", "--device": device != "auto"}
    of_models |= {"--model-spec": model_spec, "--trust-code": trust_code, "--cache": cache is not None}
    of_models |= {"--data without --show-faces": data is not None and not show_faces}
    of_tables = {"--rename": rename, "--value": value, "--memory": memory}
    _check_source(predictions, checkpoint, data, show_faces)
    refuse_unread(of_models if predictions else of_tables, bool(predictions))
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
    with Bars() as bars, keeping_predictions(out) if checkpoint else nullcontext(out) as keep:
        if checkpoint is not None and data is not None:
            from fairaudit.models.wrapped.opening import open_model

            model = open_model(checkpoint, model_spec, trust_code=trust_code)
            name = name or (str(model.meta["name"]) if model.stated else None)
            if not task and not plan:
                tasks = heads_of(model, tasks, say)
            table, meta, faces_root = predict_for_audit(model, data, dataset, spec, split, device, keep, bars, cache)
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


def _check_source(predictions: Path | None, checkpoint: str | None, data: Path | None, show_faces: bool) -> None:
    """Raise UsageError unless the options name one source of predictions, and the faces where those are needed."""
    if (predictions is None) == (checkpoint is None):
        raise UsageError("give either --predictions FILE or --checkpoint MODEL with --data FOLDER")
    if checkpoint is not None and data is None:
        raise UsageError("--checkpoint needs --data, the folder of the faces to audit it on")
    if show_faces and data is None:
        raise UsageError("--show-faces needs --data, the folder in which the faces lie")
