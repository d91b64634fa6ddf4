"""What is asked of a spec before a face is read, and of the faces before a model is trained."""

from collections.abc import Sequence
from pathlib import Path

from fairaudit.covariates import check_covariates
from fairaudit.data.quality import QUALITY
from fairaudit.data.readers import READERS
from fairaudit.data.tables import FaceTable
from fairaudit.errors import UsageError
from fairaudit.masking.measure import check_masking
from fairaudit.models.backbones import check_backbone
from fairaudit.models.forest import check_keys, is_forest
from fairaudit.models.forest_training import check_forest
from fairaudit.policy_checks import check_names, declared
from fairaudit.refit_stage import check_method
from fairaudit.registry import lookup
from fairaudit.robustness.measure import check_perturbations
from fairaudit.spec import MitigationSpec, Spec


def check_spec(spec: Spec, weights_folders: Sequence[Path]) -> None:
    """Raise UsageError for a data set, backbone, weights, mitigation or metric of a policy that cannot be had.

    Called before any face is read.
    """
    for source in spec.data.sources or (spec.data,):
        lookup(READERS, source.dataset, "dataset")
    check_perturbations(spec.robustness)
    check_masking(spec.masking)
    if spec.sweep:
        raise UsageError("the spec has a [sweep]: run `fairaudit sweep`, or take the table out")
    for entry in spec.mitigations:
        check_method(spec, entry)
    if is_forest(spec.model):
        check_forest(spec)
    else:
        check_keys(spec)
        check_backbone(spec.model, weights_folders)
    check_names(spec.audit)


def mitigation_names(mitigations: Sequence[MitigationSpec]) -> dict[str, MitigationSpec]:
    """Return the mitigated models by name: the method, with its axis where a method is used on several."""
    methods = [entry.method for entry in mitigations]
    names: dict[str, MitigationSpec] = {}
    for entry in mitigations:
        name = entry.method if methods.count(entry.method) == 1 else f"{entry.method}-{entry.by.replace(':', '-')}"
        if name in names:
            raise UsageError(f"mitigation {entry.method!r} by {entry.by!r} is named twice in the spec")
        names[name] = entry
    return names


def choose_axes(spec: Spec, faces: FaceTable) -> tuple[str, ...] | None:
    """Check that the data have every attribute and head that the spec names; return the axes to audit by.

    None means that the spec names none, and the audit takes its own (each attribute, then pairs, then all three).
    """
    for task in spec.tasks:
        lookup(faces.tasks, task, "head (the data have no such label)")
    chosen = [*(spec.audit.subgroups or ()), *(entry.by for entry in spec.mitigations), *spec.audit.population]
    for policy in [p for family in declared(spec.audit).values() for p in family]:
        chosen.append(policy.by)
        if policy.task is not None:
            lookup({task: task for task in spec.tasks or faces.tasks}, policy.task, f"task in policy {policy}:")
    faces.require([*chosen, spec.training.select_by] if spec.training.select_by else chosen)
    columns = [*faces.tasks, *faces.attributes, *QUALITY]
    check_covariates(columns, spec.audit.adjust_for, list(faces.tasks), spec.audit.adjust_to)
    return spec.audit.subgroups
