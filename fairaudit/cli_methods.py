"""`fairaudit compare NAME=AUDIT,AUDIT,… NAME=…`: methods with several seeds each."""

from collections.abc import Sequence
from pathlib import Path

import typer

from fairaudit.errors import UsageError

FORM = "NAME=AUDIT,AUDIT,… (an audit folder for each seed, in the same order of seeds for every name)"


def grouped(arguments: Sequence[Path]) -> dict[str, list[Path]] | None:
    """Return each name's audit folders, None where every argument is a folder itself.

    Raises UsageError where both kinds are mixed, a name comes twice, or a name has no folder.
    """
    named = [str(path) for path in arguments if "=" in str(path) and not path.exists()]
    if not named:
        return None
    if len(named) < len(arguments):
        raise UsageError(f"give plain audit folders, or for every model {FORM}; both kinds were given")
    groups: dict[str, list[Path]] = {}
    for text in named:
        name, _, folders = text.partition("=")
        parts = [Path(folder) for folder in folders.split(",")]
        if not name or "" in folders.split(",") or name in groups:
            raise UsageError(f"{text!r}: write {FORM}, each name once")
        groups[name] = parts
    if len(groups) < 2:
        raise UsageError(f"compare needs a baseline and at least one other method; give two or more of {FORM}")
    return groups


def compare_groups(
    groups: dict[str, list[Path]],
    out: Path,
    *,
    by: list[str] | None,
    tasks: list[str] | None,
    validation: Sequence[Path],
    min_group_size: int | None,
    margin: float,
) -> None:
    """Compare the methods over seeds × faces, write tables and page into `out`, and print the sentences."""
    from fairaudit.console import Bars
    from fairaudit.data.predictions import read_predictions
    from fairaudit.files import claim
    from fairaudit.inputs import audit_settings, relative_link, stored_predictions
    from fairaudit.methods import compare_methods
    from fairaudit.report.render import write_methods_report
    from fairaudit.results import AuditResult

    claim(out, "comparison of methods", "methods.json")
    tables = {name: [stored_predictions(folder) for folder in folders] for name, folders in groups.items()}
    baseline, *others = groups
    meta = AuditResult.load(groups[baseline][0]).meta
    with Bars() as bars:
        found = compare_methods(
            tables[baseline],
            {name: tables[name] for name in others},
            by=by or list(meta["subgroups"]),
            tasks=tasks,
            audit=audit_settings(None, min_group_size or int(meta["min_group_size"])),
            margin=margin,
            validation=[read_predictions(path) for path in validation] or None,
            baseline_name=baseline,
            progress=bars,
        )
    found.save(out)
    links = {
        f"{name}, seed {seed}": relative_link(folder, out)
        for name, folders in groups.items()
        for seed, folder in enumerate(folders, start=1)
    }
    write_methods_report(found, out, links=links)
    for warning in found.meta["warnings"]:
        typer.echo(warning)
    for sentences in found.meta["summary"].values():
        for sentence in sentences:
            typer.echo(sentence)
    typer.echo(f"Open {out / 'index.html'}")
