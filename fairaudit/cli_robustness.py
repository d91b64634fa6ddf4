"""`fairaudit robustness`: whose accuracy falls when pictures get worse."""

from typing import Annotated

import typer

from fairaudit.cli_data import DataOption, DatasetOption, OutOption, SpecOption
from fairaudit.cli_options import ByOption, CheckpointArgument, DeviceOption, ModelSpecOption, TaskOption, TrustOption


def robustness(
    checkpoint: CheckpointArgument,
    data: DataOption,
    out: OutOption,
    dataset: DatasetOption = None,
    spec: SpecOption = None,
    split: Annotated[str, typer.Option(help="train, val, test, all or auto.")] = "auto",
    by: ByOption = None,
    task: TaskOption = None,
    perturbation: Annotated[
        list[str] | None,
        typer.Option(help="blur, noise, jpeg, darkness or low-contrast; repeat for several. Default: the spec's."),
    ] = None,
    faces: Annotated[
        int | None,
        typer.Option(help="At most so many faces, drawn evenly over the first axis; 0: all. Default: 1,000.", min=0),
    ] = None,
    device: DeviceOption = "auto",
    model_spec: ModelSpecOption = None,
    trust_code: TrustOption = False,
) -> None:
    """Whose accuracy falls when pictures get worse? Blur, noise, JPEG, darkness, low contrast, at five strengths each.

    Writes robustness.csv (accuracy against strength per subgroup), robustness_gaps.csv, robustness_tests.csv (does a
    subgroup lose more than everyone else?), a page, and every prediction. After an interruption the same command goes
    on.
    """
    from fairaudit.console import Bars, say
    from fairaudit.files import claim
    from fairaudit.inputs import audit_settings, data_spec, faces_for, heads_of
    from fairaudit.models.wrapped.opening import open_model
    from fairaudit.report.robustness import headline, write_robustness_report
    from fairaudit.results import Robustness
    from fairaudit.robustness.measure import measure
    from fairaudit.spec import RobustnessSpec

    claim(out, "robustness", Robustness.MARKER)
    model = open_model(checkpoint, model_spec, trust_code=trust_code)
    loaded = data_spec(dataset, spec, model.meta)
    given = {"perturbations": tuple(perturbation or ()) or None, "faces": faces, "subgroups": tuple(by or ()) or None}
    asked = (loaded.robustness or RobustnessSpec()).model_copy(
        update={key: value for key, value in given.items() if value is not None}
    )
    with Bars() as bars:
        table, which = faces_for(model.meta, data, dataset, spec, split, bars)
        say(f"{which}: {len(table):,}")
        found = measure(
            model,
            table,
            out,
            robustness=asked,
            audit=audit_settings(loaded, None),
            tasks=task or heads_of(model, loaded.tasks, say),
            seed=loaded.seed,
            device=device,
            progress=bars,
        )
        for warning in found.meta["warnings"]:
            say(f"  {warning}")
        page = write_robustness_report(found, out)
    for line in headline(found):
        typer.echo(line)
    typer.echo(f"Open {page}")
