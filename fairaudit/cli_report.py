"""`fairaudit report`: the pages of an audit, written again from its folder."""

from pathlib import Path
from typing import Annotated

import typer

from fairaudit.cli_options import AcknowledgeOption, OutOption
from fairaudit.errors import UsageError


def report(
    audit_folder: Annotated[Path, typer.Argument(metavar="AUDIT", help="Audit folder.")],
    out: OutOption,
    attribution: Annotated[Path | None, typer.Option(help="Folder that `fairaudit attribute` wrote.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the faces, for --show-faces.")] = None,
    acknowledge: AcknowledgeOption = None,
    hide_below: Annotated[
        int | None,
        typer.Option(
            "--hide-below",
            help="Hide figures of fewer faces than this, and further ones so that none can be worked out; for a folder "
            "that is passed on.",
            min=2,
        ),
    ] = None,
    show_faces: Annotated[
        bool, typer.Option("--show-faces", help="Print thumbnails of wrongly labelled faces.")
    ] = False,
    single_file: Annotated[
        bool, typer.Option("--single-file", help="Put every subgroup's page into index.html, to pass on one file.")
    ] = False,
) -> None:
    """Write the HTML report of an audit: index.html and one page a subgroup, readable offline."""
    from fairaudit.files import claim
    from fairaudit.report.render import render_audit
    from fairaudit.spec import acknowledgement
    from fairaudit.stages import RECORD

    if show_faces and data is None:
        raise UsageError("--show-faces needs --data, the folder in which the faces lie")
    if out.resolve() != audit_folder.resolve():
        claim(out, "report", "index.html", whole=False)
        others = [
            name for name in ("audit.json", "comparison.json", "attribution.json", RECORD) if (out / name).exists()
        ]
        if others:
            raise UsageError(
                f"--out {out} holds results of its own ({others[0]}), which these pages do not show; give a new folder"
            )
    index = render_audit(
        audit_folder,
        out,
        attribution=attribution,
        faces_root=data if show_faces else None,
        acknowledged=acknowledgement(acknowledge) if acknowledge else "",
        below=hide_below,
        single=single_file,
    )
    typer.echo(f"Open {index}")
