"""`fairaudit compare`: models on the same faces, paired by image."""

from pathlib import Path
from typing import Annotated

import typer

from fairaudit.cli_methods import compare_groups, grouped
from fairaudit.cli_options import ByOption, OutOption, TaskOption
from fairaudit.errors import UsageError


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
