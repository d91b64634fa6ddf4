"""`fairaudit data …`: look at faces before anything is trained on them."""

from pathlib import Path
from typing import Annotated

import typer

from fairaudit.cli_options import DataOption, DatasetOption, OutOption, SpecOption
from fairaudit.errors import UsageError
from fairaudit.wording import plural

data_app = typer.Typer(no_args_is_help=True, help="Look at faces before anything is trained on them.")


@data_app.command()
def check(data: DataOption, dataset: DatasetOption = None, spec: SpecOption = None) -> None:
    """List what is wrong or odd in a folder of faces: damaged, duplicate, mislabelled, excluded."""
    from fairaudit.console import Bars
    from fairaudit.data.summary import findings_summary
    from fairaudit.inputs import data_spec, load

    with Bars() as bars:
        faces = load(data, data_spec(dataset, spec), bars)
    typer.echo(f"{plural(len(faces), 'usable face')} in {data}")
    if faces.findings.empty:
        typer.echo("nothing odd was met")
    for row in findings_summary(faces.findings).itertuples():
        typer.echo(f"{row.kind}: {row.count:,} {row.action} (for example {row.examples})")


@data_app.command()
def summary(data: DataOption, dataset: DatasetOption = None, spec: SpecOption = None) -> None:
    """Count the faces of every subgroup and intersection as CSV; with a spec, per split."""
    from fairaudit.console import Bars, say
    from fairaudit.data.summary import composition
    from fairaudit.inputs import data_spec, load, load_and_split
    from fairaudit.model_stages import describe_faces

    with Bars() as bars:
        loaded = data_spec(dataset, spec)
        faces = (load_and_split if spec else load)(data, loaded, bars)
    describe_faces(faces, say)
    typer.echo(composition(faces).to_csv(index=False).rstrip())


@data_app.command()
def synthesize(
    out: OutOption,
    spec: SpecOption = None,
    n: Annotated[int | None, typer.Option(help="How many faces; default: the spec's.", min=20)] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same faces.", min=0)] = 0,
) -> None:
    """Draw made-up faces with planted bias; the truth is written beside them (planted.json)."""
    from fairaudit.console import Bars
    from fairaudit.data.synthetic import synthesize as draw
    from fairaudit.files import claim
    from fairaudit.inputs import find_spec

    claim(out, "set of made-up faces", "planted.json")
    made_up = find_spec(spec or Path("demo"))[0].data.synthetic
    if made_up is None:
        raise UsageError(f"spec {spec} has no [data.synthetic] table")
    with Bars() as bars:
        folder = draw(made_up.model_copy(update={"n": n} if n else {}), out, seed=seed, progress=bars)
    typer.echo(f"Made-up faces: {folder}")


@data_app.command()
def merge(
    spec: Annotated[Path, typer.Argument(help='Spec with dataset = "merged".')],
    data: DataOption,
    out: Annotated[
        Path, typer.Option("--out", help="Manifest to write, .csv or .parquet; its paths are relative to --data.")
    ],
) -> None:
    """Join several data sets into one manifest with common labels; labels a scheme cannot express stay empty."""
    from fairaudit.console import Bars
    from fairaudit.files import atomic_file
    from fairaudit.inputs import find_spec, load

    if out.suffix not in {".csv", ".parquet"}:
        raise UsageError(f"--out {out}: the manifest's name must end in .csv or .parquet")
    if out.exists():
        raise UsageError(f"--out {out} exists already and could be somebody's labels; give a new name or delete it")
    loaded = find_spec(spec)[0]
    if not loaded.data.sources:
        raise UsageError(f"{spec} reads one data set, {loaded.data.dataset!r}; to merge, it needs [[data.sources]]")
    with Bars() as bars:
        faces = load(data, loaded, bars)
    with atomic_file(out) as temporary:
        writer = faces.frame.to_csv if out.suffix == ".csv" else faces.frame.to_parquet
        writer(temporary, index=False)
    typer.echo(f"{plural(len(faces), 'face')} in {out}")
