"""Options and arguments that several commands have in common."""

from pathlib import Path
from typing import Annotated

import typer

DataOption = Annotated[Path, typer.Option("--data", help="Folder of the faces.", show_default=False)]
OutOption = Annotated[
    Path, typer.Option("--out", help="Where to write: new, empty, or an earlier result of the same kind.")
]
SpecOption = Annotated[Path | None, typer.Option("--spec", help="TOML spec; `fairaudit list audits` names ours.")]
DatasetOption = Annotated[
    str | None, typer.Option(help="How to read the folder: utkface, fairface, manifest, folders or synthetic.")
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
CacheOption = Annotated[
    Path | None,
    typer.Option(help="Folder (at most 20 GB) that keeps decoded faces for the next command; they are photographs."),
]
CheckpointArgument = Annotated[
    str,
    typer.Argument(help="Checkpoint folder, anybody's model file (with its model.toml), or module:function."),
]
ModelSpecOption = Annotated[
    str | None,
    typer.Option(
        "--model-spec", help="Description of a model file, or a preset's name; default: model.toml beside it."
    ),
]
TrustOption = Annotated[
    bool, typer.Option("--trust-code", help="Run the code that a model carries (TorchScript, torch.export, functions).")
]
ByOption = Annotated[
    list[str] | None, typer.Option("--by", help="Subgroup axis, such as race or race:gender; repeat for several.")
]
AcknowledgeOption = Annotated[
    str | None,
    typer.Option(
        "--acknowledge-race-head",
        help="'NAME, purpose': who has read the legal notice on heads that infer race, and what such a head is for; "
        "recorded and printed.",
    ),
]
TaskOption = Annotated[
    list[str] | None, typer.Option("--task", help="Head to audit; repeat for several. Default: all.")
]
PolicyOption = Annotated[
    list[str] | None,
    typer.Option("--policy", help="A limit, such as 'difference(recall, race:gender) <= 0.05'; repeat for several."),
]
StrictOption = Annotated[bool, typer.Option("--strict", help="End with exit code 3 where a policy stays inconclusive.")]
