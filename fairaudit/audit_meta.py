"""What an audit says of itself: settings, versions, hashes, what was left out, and warnings."""

import platform
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import scipy

import fairaudit
from fairaudit.audit_tables import AxisTables
from fairaudit.covariates import MEDIATOR
from fairaudit.data.predictions_check import NO_PREDICTION, SUSPICIOUS
from fairaudit.data.sharded import AnyPredictions
from fairaudit.environment import environment
from fairaudit.results.files import FORMAT_VERSION
from fairaudit.spec import AuditSpec
from fairaudit.subgroups import OVERALL, UNKNOWN
from fairaudit.wording import plural

FEW_FACES = 100
UNKNOWN_LABELS = "Where the labels come from is not known: every claim holds on this sample and these labels only."


def meta_of(
    table: AnyPredictions,
    names: Sequence[str],
    groups: Mapping[str, Mapping[str, int]],
    audit: AuditSpec,
    seed: int,
    excluded: list[dict[str, Any]],
    found: Sequence[AxisTables],
) -> dict[str, Any]:
    """Return the head of audit.json; `found`: the tables of every task and axis."""
    return {
        "created": date.today().isoformat(),
        "fairaudit": fairaudit.__version__,
        "format": FORMAT_VERSION,
        "n": len(table),
        "tasks": {t: {"classes": list(table.tasks[t]), "ordered": t in table.ordered} for t in names},
        "subgroups": groups,
        "degenerate": [{"task": t.task, "by": t.by, "reason": t.degenerate} for t in found if t.degenerate],
        "shared_classes": [
            {"task": t.task, "by": t.by, "classes": list(t.shared)} for t in found if t.by != OVERALL and t.shared
        ],
        "min_group_size": audit.min_group_size,
        "confidence": audit.confidence,
        "draws": audit.draws,
        "seed": seed,
        # all that `verify` needs to make the same audit again
        "settings": {
            "audit": audit.model_dump(mode="json"),
            "tasks": list(names),
            "by": list(groups),
            "seed": seed,
        },
        "versions": versions(),
        "environment": environment(),
        "label_source": table.label_source,
        "independence": independence(table),
        "excluded": [*excluded, *_findings(table)],
        "outcomes": [entry for t in found for entry in t.outcomes],
        "hashes": {"predictions": table.hash(), **_checkpoint_hash(table)},
        **{key: table.meta[key] for key in ("shards",) if key in table.meta},
        "model": table.meta.get("model", {}),
        "data": table.meta.get("data", {}),
        "mitigation": table.meta.get("mitigation"),
        "training": table.meta.get("training"),
    }


def warnings_of(
    table: AnyPredictions,
    groups: Mapping[str, Mapping[str, int]],
    audit: AuditSpec,
    excluded: Sequence[Mapping[str, Any]],
    unlabelled: Sequence[str],
) -> list[str]:
    """Return what a reader must know before any figure, a sentence each: of the table, its subgroups, the settings.

    groups: faces of each subgroup by axis; excluded: entries of `meta["excluded"]`; unlabelled: tasks without labels.
    """
    said = list(table.meta.get("warnings", ()))
    if seen := table.meta.get("seen_in_training"):
        said.append(
            f"{seen} of the {len(table)} audited faces were in the model's training or validation data: what is found "
            "on them says little about new faces."
        )
    suspicious = table.findings[table.findings["kind"].isin(SUSPICIOUS)]
    said += [f"{detail}." for detail in dict.fromkeys(suspicious["detail"])]
    if len(table) < FEW_FACES:
        said.append(
            f"Only {plural(len(table), 'face was', 'faces were')} audited: most differences cannot be seen at this "
            "size."
        )
    if unlabelled:
        said.append(f"No labels of {', '.join(unlabelled)}: only how often each class is predicted can be reported.")
    said += [f"{e['task']}: {plural(e['count'], 'face')} left out ({e['kind'].replace('_', ' ')})." for e in excluded]
    for by, members in groups.items():
        few = {name: n for name, n in members.items() if n < audit.min_group_size and name != UNKNOWN}
        if few:
            shown = ", ".join(f"{name} ({n})" for name, n in list(few.items())[:10])
            more = f" and {len(few) - 10} more" if len(few) > 10 else ""
            said.append(
                f"{by}: {plural(len(few), 'subgroup has', 'subgroups have')} fewer than {audit.min_group_size} faces; "
                f"shown, but not assessed: {shown}{more}."
            )
        if unknown := members.get(UNKNOWN):
            said.append(
                f"{by}: {plural(unknown, 'face lacks', 'faces lack')} an attribute; the subgroup {UNKNOWN!r} stands "
                "outside comparisons."
            )
    said += table.meta.get("shards", {}).get("said", [])
    if table.meta.get("row_numbers"):
        said.append("The table names no images: rows are numbered, so this audit cannot be compared with another.")
    if audit.adjust_for:
        said.append(MEDIATOR)
    if table.weighted:
        said.append("Faces are weighted: intervals use the effective number of faces (Σw)² / Σw².")
    return said


def merged(own: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Complete `own` by what the caller knows: hashes join, warnings are appended, anything else is replaced."""
    found = {**own, **{key: value for key, value in given.items() if value is not None or key not in own}}
    found["hashes"] = {**own["hashes"], **given.get("hashes", {})}
    found["warnings"] = [*own["warnings"], *(w for w in given.get("warnings", []) if w not in own["warnings"])]
    found["told"] = list(given.get("warnings", []))  # so that `verify` knows which of them it cannot make again
    found["label_source"] = given.get("label_source") or own["label_source"]
    if not found["label_source"]:
        found["warnings"].append(UNKNOWN_LABELS)
    return found


def versions() -> dict[str, str]:
    """Return the versions of what the numbers come from."""
    return {
        "fairaudit": fairaudit.__version__,
        "numpy": np.__version__,
        "pandas": pd.__version__,
        "scipy": scipy.__version__,
        "python": platform.python_version(),
    }


def independence(table: AnyPredictions) -> str:
    """Return what the intervals take as independent, in a sentence for the report."""
    if (people := table.subjects()) is not None:
        return (
            f"Pictures of one person are kept together: intervals come from the spread between "
            f"{plural(people, 'subject')}, "
            "not between faces."
        )
    wider = {m: (1 + (m - 1) * 0.3) ** 0.5 for m in (2, 5)}
    return (
        "Intervals assume that the faces are independent, because the table names no subjects. With several pictures "
        f"of a person they would be wider: at an intraclass correlation of 0.3, say, by a factor of {wider[2]:.2f} "
        f"with 2 pictures a person and {wider[5]:.2f} with 5 (square root of the design effect 1 + (m − 1) · ICC)."
    )


def _checkpoint_hash(table: AnyPredictions) -> dict[str, str]:
    """Return the hash of the checkpoint that made the predictions, where they say it."""
    return {"checkpoint": str(table.meta["checkpoint_hash"])} if table.meta.get("checkpoint_hash") else {}


def _findings(table: AnyPredictions) -> list[dict[str, Any]]:
    """Return what was met in the table or its faces, counted by kind; what a task left out is listed by the task."""
    entries = []
    met = table.findings[table.findings["kind"] != NO_PREDICTION]
    for (kind, action), rows in met.groupby(["kind", "action"], sort=False):
        images = [str(image) for image in rows["image"] if image][:20]
        details = list(dict.fromkeys(str(detail) for detail in rows["detail"]))[:5]
        entries.append(
            {
                "kind": kind,
                "action": action,
                "count": int(rows["rows"].sum()) if "rows" in rows else len(rows),
                "images": images,
                "details": details,
            }
        )
    return entries
