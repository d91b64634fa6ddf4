"""A frozen plan: what an audit will ask, written down and hashed before the test set is read. It carries no data."""

import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fairaudit import __version__
from fairaudit.errors import UsageError
from fairaudit.files import value_hash, write_json
from fairaudit.spec import AuditSpec, Spec

FORMAT = 1
LATE = ": what it asks may have been chosen with the predictions in view"
_HASH = "sha256"


@dataclass(frozen=True, kw_only=True)
class FrozenPlan:
    """A plan whose hash was checked: the audit's settings, tasks (empty: all) and seed; `created`: ISO time, UTC."""

    name: str
    question: str
    created: str
    tasks: tuple[str, ...]
    seed: int
    audit: AuditSpec
    sha256: str


def freeze(spec: Spec, path: Path) -> FrozenPlan:
    """Write the plan of `spec` to `path`.

    Raises UsageError where the file exists (a frozen plan is never overwritten), or the spec declares neither policies
    nor hypotheses.
    """
    if path.exists():
        raise UsageError(f"--out {path} exists already; a frozen plan is not overwritten: give a new name")
    if not (spec.audit.policies or spec.audit.plan.hypotheses):
        raise UsageError(
            f"spec {spec.name!r} declares nothing to plan: give policies under [audit] or hypotheses under [audit.plan]"
        )
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    content = {"fairaudit_plan": FORMAT, "fairaudit": __version__, "created": now, **_planned(spec)}
    write_json(path, {**content, _HASH: value_hash(content)})
    return load_plan(path)


def load_plan(path: Path) -> FrozenPlan:
    """Read what `freeze` wrote. Raises UsageError where it is missing, no plan, or was changed (its hash differs)."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UsageError(f"plan {path} cannot be read: {error}") from None
    if not isinstance(content, dict) or content.get("fairaudit_plan") != FORMAT:
        raise UsageError(f"{path} is no frozen plan of format {FORMAT}; make one with `fairaudit plan SPEC --out FILE`")
    given = content.pop(_HASH, None)
    if given != value_hash(content):
        raise UsageError(
            f"plan {path} was changed after it was frozen: its content has the hash {value_hash(content)[:12]}…, "
            f"but it says {str(given)[:12]}…"
        )
    try:
        return FrozenPlan(
            name=content["name"],
            question=content["question"],
            created=datetime.datetime.fromisoformat(content["created"]).isoformat(),
            tasks=tuple(content["tasks"]),
            seed=int(content["seed"]),
            audit=AuditSpec.model_validate(content["audit"]),
            sha256=str(given),
        )
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        raise UsageError(f"plan {path} does not fit this version of fairaudit ({error}); freeze it again") from None


def check_against(plan: FrozenPlan, spec: Spec | None, given: Mapping[str, Any]) -> None:
    """Raise UsageError for an option of `given` that was given, or a spec that differs from what is planned."""
    for option, value in given.items():
        if value:
            raise UsageError(f"{option} would change the frozen plan; leave it out, or audit without --plan")
    if spec is None:
        return
    planned, asked = (part.model_dump(mode="json") for part in (plan.audit, spec.audit))
    changed = [key for key in ("tasks", "seed") if getattr(spec, key) != getattr(plan, key)]
    changed += [f"audit.{key}" for key, value in asked.items() if value != planned[key]]
    if changed:
        raise UsageError(
            f"the spec differs from the frozen plan in {', '.join(changed)}; audit without --spec, or with the spec "
            "that the plan was frozen from"
        )


def plan_meta(plan: FrozenPlan, predictions: Path | None) -> dict[str, Any]:
    """Return what the audit keeps of a plan: its hash, its date, and what is known of which came first."""
    return {
        "name": plan.name,
        "question": plan.question,
        "created": plan.created,
        "sha256": plan.sha256,
        "timing": timing(plan, predictions),
    }


def timing(plan: FrozenPlan, predictions: Path | None) -> str:
    """Say, as far as dates can tell, whether the plan was frozen before the predictions were written."""
    proof = "A hash proves what a plan says, not when it was written; a copied file may carry a new date."
    if predictions is None:
        return f"By its own date ({plan.created}) the plan is older than the predictions, made in this audit. {proof}"
    try:
        written = predictions.stat().st_mtime
    except OSError:
        return f"When the predictions were written is not known. {proof}"
    date = datetime.datetime.fromtimestamp(written, datetime.UTC)
    order, doubt = ("before", "") if frozen_before(plan, date) else ("after", LATE)
    written_on = f"the file of predictions was last written ({date.isoformat(timespec='seconds')})"
    return f"By its own date ({plan.created}) the plan was frozen {order} {written_on}{doubt}. {proof}"


def frozen_before(plan: FrozenPlan, date: datetime.datetime) -> bool:
    """Tell whether the plan's own date lies before `date` (both with a time zone)."""
    return datetime.datetime.fromisoformat(plan.created) <= date


def _planned(spec: Spec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "question": spec.question,
        "tasks": list(spec.tasks),
        "seed": spec.seed,
        "audit": spec.audit.model_dump(mode="json"),
    }
