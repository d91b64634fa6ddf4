"""`fairaudit robustness`: whose accuracy falls when pictures get worse."""

from typing import Annotated

import typer

from fairaudit.cli_options import (
    ByOption,
    CheckpointArgument,
    DataOption,
    DatasetOption,
    DeviceOption,
    ModelSpecOption,
    OutOption,
    SpecOption,
    TaskOption,
    TrustOption,
)


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
    from functools import partial

    from fairaudit.cli_probe import changed, probe
    from fairaudit.report.robustness import headline, write_robustness_report
    from fairaudit.results import Robustness
    from fairaudit.robustness.measure import measure
    from fairaudit.spec import RobustnessSpec

    given = {"perturbations": tuple(perturbation or ()), "faces": faces, "subgroups": tuple(by or ())}
    probe(
        checkpoint,
        data,
        out,
        kind="robustness",
        marker=Robustness.MARKER,
        look=lambda loaded: partial(measure, robustness=changed(loaded.robustness or RobustnessSpec(), given)),
        write=write_robustness_report,
        headline=headline,
        dataset=dataset,
        spec=spec,
        split=split,
        task=task,
        device=device,
        model_spec=model_spec,
        trust_code=trust_code,
    )
