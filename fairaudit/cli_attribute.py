"""`fairaudit attribute`: where a model looks, by subgroup, and whether that may be believed."""

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
    TrustOption,
)


def attribute(
    checkpoint: CheckpointArgument,
    data: DataOption,
    out: OutOption,
    dataset: DatasetOption = None,
    spec: SpecOption = None,
    split: Annotated[str, typer.Option(help="train, val, test, all or auto.")] = "auto",
    by: ByOption = None,
    faces_per_head: Annotated[
        int | None, typer.Option(help="Faces a head, drawn evenly over the first axis; default: the spec's.", min=2)
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(help="Method, of `fairaudit list attributions`; repeat for several. The first gives the maps."),
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(help="Head that is explained; repeat. Default: the spec's, else all, each for its own work."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Steps of path methods, samples of gradient SHAP; default: the spec's.", min=8)
    ] = None,
    samples: Annotated[
        int | None, typer.Option(help="Masked faces of LIME and kernel SHAP; default: the spec's.", min=20)
    ] = None,
    pieces: Annotated[str | None, typer.Option(help="What LIME and kernel SHAP hide: superpixels or regions.")] = None,
    baseline: Annotated[
        list[str] | None,
        typer.Option(help="What stands for 'absent': blurred, mean, noise, black; repeat. Maps take the first."),
    ] = None,
    contrast: Annotated[
        list[str] | None,
        typer.Option(help="Axis whose subgroups are compared, region by region; repeat. Twice the work a baseline."),
    ] = None,
    faces_per_subgroup: Annotated[
        int | None, typer.Option(help="Faces a subgroup that are compared; default: the spec's.", min=2)
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(help="Class explained in every compared face, such as gender=Female; default: the commonest."),
    ] = None,
    alignment: Annotated[
        str | None,
        typer.Option(help="Where faces lie: auto, utkface, fairface, arcface, avatars, landmarks (dlib) or none."),
    ] = None,
    sanity: Annotated[str | None, typer.Option(help="none, quick or full checks of the method.")] = None,
    device: DeviceOption = "auto",
    model_spec: ModelSpecOption = None,
    trust_code: TrustOption = False,
) -> None:
    """Where does the model look, per subgroup? Captum's methods, averaged per subgroup, with checks of the method.

    What is not given here is the spec's (else the checkpoint's). Writes regions.csv, contrasts.csv, sanity.csv, maps.
    A call that was stopped goes on where it was when it is given again.
    """
    from fairaudit.attribution.attribute import attribute as attribute_faces
    from fairaudit.attribution.attribute import check_settings
    from fairaudit.attribution.passes import keeping
    from fairaudit.console import Bars, say
    from fairaudit.files import claim
    from fairaudit.inputs import attribution_settings, data_spec, faces_for
    from fairaudit.models.wrapped.opening import open_model

    claim(out, "attribution", "attribution.json")
    model = open_model(checkpoint, model_spec, trust_code=trust_code)
    model.network  # noqa: B018 (says before any face is read that there are no gradients)
    given = {
        "faces_per_head": faces_per_head,
        "methods": method,
        "tasks": task,
        "steps": steps,
        "samples": samples,
        "pieces": pieces,
        "baselines": baseline,
        "contrasts": contrast,
        "faces_per_subgroup": faces_per_subgroup,
        "alignment": alignment,
        "sanity": sanity,
    }
    loaded = data_spec(dataset, spec, model.meta)
    settings = attribution_settings(loaded, given, target or ())
    check_settings(settings, model.classes)
    with Bars() as bars, keeping(out) as keep:
        faces, which = faces_for(model.meta, data, dataset, spec, split, bars)
        say(f"{which}: {len(faces):,}")
        axes = by or loaded.audit.subgroups or (*faces.tasks, *faces.attributes)
        found = attribute_faces(
            model,
            faces,
            by=tuple(axes),
            attribution=settings,
            seed=loaded.seed,
            device=device,
            keep=keep,
            progress=bars,
        )
        found.save(out)
    for warning in found.meta.get("warnings", ()):
        say(f"  {warning}")
    for sentence in found.meta.get("findings", ()):
        typer.echo(sentence)
    typer.echo(f"Attribution: {out} (fairaudit report AUDIT --attribution {out} --out DIR shows it)")
