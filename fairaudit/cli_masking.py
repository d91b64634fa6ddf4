"""`fairaudit masking`: which region of the face a model needs, and whether some people's more than others'."""

from typing import Annotated, Any

import typer

from fairaudit.cli_data import DataOption, DatasetOption, OutOption, SpecOption
from fairaudit.cli_options import ByOption, CheckpointArgument, DeviceOption, ModelSpecOption, TaskOption, TrustOption


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
    from fairaudit.console import Bars, say
    from fairaudit.files import claim
    from fairaudit.inputs import audit_settings, data_spec, faces_for, heads_of
    from fairaudit.masking.measure import hide_regions
    from fairaudit.models.wrapped.opening import open_model
    from fairaudit.report.masking import masking_headline, write_masking_report
    from fairaudit.results import Masking
    from fairaudit.spec import MaskingSpec

    claim(out, "masking", Masking.MARKER)
    model = open_model(checkpoint, model_spec, trust_code=trust_code)
    loaded = data_spec(dataset, spec, model.meta)
    given: dict[str, Any] = {"regions": tuple(region or ()) or None, "fills": tuple(fill or ()) or None, "faces": faces}
    given |= {"subgroups": tuple(by or ()) or None, "alignment": alignment}
    asked = (loaded.masking or MaskingSpec()).model_copy(
        update={key: value for key, value in given.items() if value is not None}
    )
    with Bars() as bars:
        table, which = faces_for(model.meta, data, dataset, spec, split, bars)
        say(f"{which}: {len(table):,}")
        found = hide_regions(
            model,
            table,
            out,
            masking=asked,
            audit=audit_settings(loaded, None),
            tasks=task or heads_of(model, loaded.tasks, say),
            seed=loaded.seed,
            device=device,
            progress=bars,
        )
        for warning in found.meta["warnings"]:
            say(f"  {warning}")
        page = write_masking_report(found, out)
    for line in masking_headline(found):
        typer.echo(line)
    typer.echo(f"Open {page}")
