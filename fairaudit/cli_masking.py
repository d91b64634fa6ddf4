"""`fairaudit masking`: which region of the face a model needs, and whether some people's more than others'."""

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


def masking(
    checkpoint: CheckpointArgument,
    data: DataOption,
    out: OutOption,
    dataset: DatasetOption = None,
    spec: SpecOption = None,
    split: Annotated[str, typer.Option(help="train, val, test, all or auto.")] = "auto",
    by: ByOption = None,
    task: TaskOption = None,
    region: Annotated[
        list[str] | None,
        typer.Option(help="Region to hide, or 'box left top right bottom'; repeat. Default: all regions."),
    ] = None,
    fill: Annotated[
        list[str] | None, typer.Option(help="blur, mean or noise; at least two, which must agree. Default: blur, mean.")
    ] = None,
    faces: Annotated[
        int | None,
        typer.Option(help="At most so many faces, drawn evenly over the first axis; 0: all. Default: 1,000.", min=0),
    ] = None,
    alignment: Annotated[
        str | None, typer.Option(help="How faces lie: auto, utkface, fairface, arcface or avatars.")
    ] = None,
    device: DeviceOption = "auto",
    model_spec: ModelSpecOption = None,
    trust_code: TrustOption = False,
) -> None:
    """Which region of the face does the model need? Hides each, with two fills, and sees how far accuracy falls.

    Writes masking.csv (per subgroup, region and fill), masking_tests.csv (does a subgroup lose more than everyone
    else?), a page, and every prediction. After an interruption the same command goes on.
    """
    from functools import partial

    from fairaudit.cli_probe import changed, probe
    from fairaudit.masking.measure import hide_regions
    from fairaudit.report.masking import masking_headline, write_masking_report
    from fairaudit.results import Masking
    from fairaudit.spec import MaskingSpec

    given = {
        "regions": tuple(region or ()),
        "fills": tuple(fill or ()),
        "faces": faces,
        "subgroups": tuple(by or ()),
        "alignment": alignment,
    }
    probe(
        checkpoint,
        data,
        out,
        kind="masking",
        marker=Masking.MARKER,
        look=lambda loaded: partial(hide_regions, masking=changed(loaded.masking or MaskingSpec(), given)),
        write=write_masking_report,
        headline=masking_headline,
        dataset=dataset,
        spec=spec,
        split=split,
        task=task,
        device=device,
        model_spec=model_spec,
        trust_code=trust_code,
    )
