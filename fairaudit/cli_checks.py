"""`fairaudit selftest`, `verify`, `diff` and `schema`: how a reader convinces themselves that the numbers hold."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fairaudit.wording import plural

MOST_SHOWN = 50
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]


def selftest(as_json: JsonOption = False) -> None:
    """Audit small tables whose answers are known, and print what was expected and what was found.

    Exit codes: 0 every case as expected · 1 a mismatch.
    """
    from fairaudit.audit_meta import versions
    from fairaudit.console import Bars, check_table
    from fairaudit.selftest import run_selftest

    with Bars() as bars:
        outcomes = run_selftest(progress=bars)
    wrong = [outcome.name for outcome in outcomes if not outcome.ok]
    if as_json:
        cases = [{**asdict(outcome), "ok": outcome.ok} for outcome in outcomes]
        typer.echo(json.dumps({"versions": versions(), "ok": not wrong, "cases": cases}, indent=1, ensure_ascii=False))
    else:
        check_table(outcomes)
        checks = sum(len(outcome.checks) for outcome in outcomes)
        said = f"MISMATCH in {', '.join(wrong)}" if wrong else "all as expected"
        typer.echo(f"fairaudit {versions()['fairaudit']}: {len(outcomes)} cases, {checks} checks: {said}")
    if wrong:
        raise typer.Exit(1)


def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of an audit, a comparison or an attribution.")],
    predictions: Annotated[
        Path | None, typer.Option(help="Table to recompute from where the audit stores no predictions.parquet.")
    ] = None,
    run_metrics: Annotated[
        bool, typer.Option("--run-metrics", help="Run the user's own metrics that the audit names: code, so trust it.")
    ] = False,
) -> None:
    """Recompute every number of an audit from its stored predictions, and check the hashes of its files.

    Exit codes: 0 all that was checked is as stored; the last line says NOT fully verified, and names it, where anything
    was left out · 1 something differs, each difference named · 4 it cannot be done.
    """
    from fairaudit.console import Bars
    from fairaudit.verification import verify as verify_folder

    with Bars() as bars:
        found = verify_folder(folder, predictions=predictions, run_metrics=run_metrics, progress=bars)
    for name, (then, now) in found.versions.items():
        typer.echo(f"{name}: made with {then}, verified with {now}")
    for difference in found.differences[:MOST_SHOWN]:
        typer.echo(difference.sentence())
    if more := len(found.differences) - MOST_SHOWN:
        typer.echo(f"… and {more:,} more differences" if more > 0 else "", nl=more > 0)
    for note in found.notes:
        typer.echo(note)
    said = f"{plural(found.files, 'file')} checked by hash"
    if found.kind == "audit":
        said += f", {found.cells:,} cells of its tables recomputed"
    if found.inexact:
        said += f" ({found.inexact:,} of them equal to 1e-9, not to the last digit)"
    if found.told:
        said += f"; {plural(found.told, 'warning')} told to the audit taken as given"
    left = f"not checked: {', '.join(found.unchecked)}" if found.unchecked else ""
    if found.differences:
        said += f"; {left}" if left else ""
        typer.echo(f"{folder}: NOT as stored: {plural(len(found.differences), 'difference')}; {said}")
        raise typer.Exit(1)
    typer.echo(f"{folder}: {f'NOT fully verified ({left}); the rest is ' if left else ''}as stored; {said}")


def diff(
    first: Annotated[Path, typer.Argument(metavar="A", help="Folder of the earlier audit.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Folder of the later audit.")],
    as_json: JsonOption = False,
) -> None:
    """Say which gaps appeared, vanished or changed beyond noise from one audit to another, as Markdown.

    For other data or another model version. Two models on the same faces: `fairaudit compare`.
    """
    from fairaudit.audit_diff import diff_folders, markdown, plain

    found = diff_folders(first, second)
    if as_json:
        typer.echo(json.dumps(plain(found), indent=1, ensure_ascii=False, allow_nan=False))
    else:
        typer.echo(markdown(found))


def schema(
    name: Annotated[str, typer.Argument(help="Which schema; `fairaudit list schemas` names them.")] = "audit",
) -> None:
    """Print the JSON schema of audit.json."""
    from fairaudit.schemas import schema_text

    typer.echo(schema_text(name), nl=False)
