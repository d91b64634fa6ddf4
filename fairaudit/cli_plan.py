"""`fairaudit power` and `fairaudit plan`, before anything is collected; and how verdicts become an exit code."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fairaudit.errors import UsageError

if TYPE_CHECKING:
    from fairaudit.results import AuditResult

POWER_COLUMNS = (
    *("question", "groups", "rate", "size", "power", "alpha", "alpha_adjusted", "design_effect"),
    *("faces_per_group", "faces", "subjects_per_group"),
)


def power(
    groups: Annotated[int, typer.Option(help="How many subgroups are compared: 7 races, 14 races × genders.")],
    rate: Annotated[float, typer.Option(help="Expected rate (accuracy, recall …), such as 0.94.")],
    gap: Annotated[
        list[float] | None, typer.Option(help="Gap of one group below the rest that must be found; repeat for several.")
    ] = None,
    limit: Annotated[
        list[float] | None,
        typer.Option(help="Limit of a policy `difference <= limit` that must pass if there is no gap; repeat."),
    ] = None,
    power: Annotated[float, typer.Option(help="How often that must succeed.")] = 0.8,
    alpha: Annotated[float, typer.Option(help="Level of the whole family of tests or policies.")] = 0.05,
    policies: Annotated[int, typer.Option(help="How many policies will be declared.", min=1)] = 1,
    subjects_per: Annotated[float, typer.Option("--subjects-per", help="Pictures of each person.")] = 1.0,
    icc: Annotated[
        float, typer.Option(help="How alike a person's pictures are: intraclass correlation, 0 to 1.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of the simulation.", min=0)] = 0,
    out: Annotated[Path | None, typer.Option("--csv", help="Write the table to this CSV file, too.")] = None,
) -> None:
    """How many faces does each subgroup need? Answered before any is collected.

    --gap: so that one group's true gap to all others is found by a score test at the level adjusted for all groups.
    --limit: so that a policy `difference <= limit` passes when there is no gap. Faces count in the metric's own
    denominator: for recall of Female, faces labelled Female.
    """
    from fairaudit.files import write_text
    from fairaudit.metrics.power import contrasts, design_effect, faces_to_find, faces_to_pass

    if not gap and not limit:
        raise UsageError("give --gap (a difference that must be found), --limit (one that must be excluded), or both")
    wider = design_effect(subjects_per, icc)
    rows: list[dict[str, object]] = []
    for question, sizes in (("find a gap", gap or ()), ("pass difference <= limit", limit or ())):
        finding = question == "find a gap"
        for size in sizes:
            level = alpha if finding else alpha / policies
            work = faces_to_find if finding else faces_to_pass
            more = {} if finding else {"seed": seed}
            faces = -(-work(groups, rate, size, level, power, **more) * wider // 1)
            adjusted = level / (contrasts(groups) if finding else groups * (groups - 1) // 2)
            values = (question, groups, rate, size, power, level, adjusted, wider, int(faces), int(faces) * groups)
            rows.append(dict(zip(POWER_COLUMNS, (*values, int(-(-faces // subjects_per))), strict=True)))
    for row in rows:
        typer.echo(_power_line(row))
    if out:
        text = io.StringIO()
        writer = csv.DictWriter(text, POWER_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(out, text.getvalue())


def plan(
    spec: Annotated[Path, typer.Argument(help="TOML spec with policies, or hypotheses in its table `audit.plan`.")],
    out: Annotated[Path, typer.Option("--out", help="The JSON file to write; an existing one is not overwritten.")],
) -> None:
    """Freeze what an audit will ask, before the test set is read: policies, hypotheses, settings, hash and date."""
    from fairaudit.inputs import find_spec
    from fairaudit.plan import freeze
    from fairaudit.policy_checks import check_names, declared

    loaded = find_spec(spec)[0]
    check_names(loaded.audit)
    frozen = freeze(loaded, out)
    for kind, family in declared(frozen.audit).items():
        for policy in family:
            typer.echo(f"{kind.replace('policies', 'policy').replace('hypotheses', 'hypothesis')}: {policy}")
    typer.echo(f"Plan {frozen.sha256} of {frozen.created}: {out}")


def verdicts_of(results: "Mapping[str, AuditResult]", strict: bool, enforce: bool = True) -> int:
    """Print every verdict of each named audit; return the exit code: 1 a policy fails, 3 inconclusive and strict.

    Hypotheses are printed and never change the code; without `enforce` it is 0.
    """
    from fairaudit.policy_tables import FAIL, INCONCLUSIVE, verdict_line

    found: set[str] = set()
    for name, result in results.items():
        prefix = f"{name}: " if len(results) > 1 else ""
        for kind in ("policies", "hypotheses"):
            for row in result.table(kind).to_dict("records"):
                typer.echo(f"{prefix}{verdict_line({str(key): value for key, value in row.items()})}")
        found |= set(result.table("policies")["verdict"])
    if not enforce:
        return 0
    return 1 if FAIL in found else 3 if strict and INCONCLUSIVE in found else 0


def _power_line(row: "Mapping[str, object]") -> str:
    size = f"{row['size']:g}"
    what = f"to find a gap of {size}" if row["question"] == "find a gap" else f"to pass difference <= {size}"
    people = f" of {row['subjects_per_group']:,} persons" if row["design_effect"] != 1 else ""
    return (
        f"{what} with power {row['power']:g} at rate {row['rate']:g}: {row['faces_per_group']:,} faces{people} in each "
        f"of {row['groups']} groups, {row['faces']:,} in all (level {row['alpha_adjusted']:.2g} a test)"
    )
