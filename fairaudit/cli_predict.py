"""`fairaudit predict` and `fairaudit join`: what a model says of faces, as a table."""

from pathlib import Path
from typing import Annotated

import typer

from fairaudit.cli_options import (
    CacheOption,
    CheckpointArgument,
    DataOption,
    DatasetOption,
    DeviceOption,
    ModelSpecOption,
    SpecOption,
    TrustOption,
)
from fairaudit.errors import UsageError
from fairaudit.wording import plural


def predict(
    checkpoint: CheckpointArgument,
    data: DataOption,
    out: Annotated[Path, typer.Option("--out", help="The Parquet file to write.")],
    dataset: DatasetOption = None,
    spec: SpecOption = None,
    split: Annotated[
        str, typer.Option(help="train, val, test, all, or auto: test on the faces it was trained with, else all.")
    ] = "auto",
    device: DeviceOption = "auto",
    precision: Annotated[
        str, typer.Option(help="fp32, or bf16 (faster; how many labels it flips is counted on a sample and printed).")
    ] = "fp32",
    compile: Annotated[
        bool,
        typer.Option(
            "--compile",
            help="Compile our own network with torch.compile first; how many labels it flips is counted on a sample "
            "and printed.",
        ),
    ] = False,
    cache: CacheOption = None,
    shard: Annotated[
        str | None,
        typer.Option(help="Only this part of the faces, such as 2/4; --out is then the folder of all parts."),
    ] = None,
    model_spec: ModelSpecOption = None,
    trust_code: TrustOption = False,
) -> None:
    """Let a checkpoint predict every face of a folder, into a table that anybody can read.

    After an interruption the same command goes on: what is done is kept beside --out until the table is whole.
    Parts (--shard) can be predicted in any order, on any machine; a folder with all of them is a table
    (audit --predictions FOLDER; `fairaudit join` makes it one file), and the same call skips a part that is done.
    """
    from fairaudit.console import Bars, say
    from fairaudit.data.parts import claim_part, faces_of, is_done, parse_part, parts_in
    from fairaudit.inputs import faces_for
    from fairaudit.models.inference import predict as predict_faces
    from fairaudit.models.prediction_keys import part_key
    from fairaudit.models.unfinished import ENDING
    from fairaudit.models.wrapped.opening import open_model

    part = parse_part(shard) if shard else None
    target = claim_part(out, part) if part else out
    model = open_model(checkpoint, model_spec, trust_code=trust_code)
    with Bars() as bars:
        faces, which = faces_for(model.meta, data, dataset, spec, split, bars)
        say(f"{which}: {len(faces):,}")
        if part:
            faces = faces_of(faces, part)
            say(f"part {part.number} of {part.of}: {len(faces):,}")
            if is_done(target, part_key(model, faces, precision, compile)):
                typer.echo(f"Predictions: {target} (done before)")
                return
        keep = (
            target.with_name(f".{target.name}{ENDING}") if part else None
        )  # hidden: the folder holds nothing but parts
        predict_faces(
            model, faces, target, device=device, precision=precision, compile=compile, cache=cache, keep=keep,
            progress=bars,
        )  # fmt: skip
    typer.echo(f"Predictions: {target}")
    if part and len(parts_in(out)) == part.of > 1:
        say(f"All {part.of} parts are there: `fairaudit join {out} --out FILE.parquet` makes them one table.")


def join(
    parts: Annotated[Path, typer.Argument(help="Folder that predict --shard wrote all parts to.")],
    out: Annotated[Path, typer.Option("--out", help="The Parquet file to write.")],
) -> None:
    """Join the parts of a prediction (predict --shard) into the table that one process would have written.

    Refused while a part is missing, or where parts are of different models or faces.
    """
    from fairaudit.data.parts import join_parts

    if out.is_dir() or out.resolve().parent == parts.resolve():
        raise UsageError(f"--out {out}: give the name of a file outside the folder of the parts")
    count = join_parts(parts, out)
    typer.echo(f"Predictions: {out} ({plural(count, 'face')})")
