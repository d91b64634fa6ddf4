"""Declared policies and hypotheses, checked against a table before anything is counted."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from fairaudit.axes import choose_axes
from fairaudit.data.tables import Predictions
from fairaudit.errors import UsageError
from fairaudit.metrics.estimates import bounds
from fairaudit.metrics.rates import METRICS, Metric
from fairaudit.policies import REFERENCE, REST, TARGET, Policy, parse_policies
from fairaudit.pooled import BY_CLASS
from fairaudit.registry import lookup, suggestion
from fairaudit.spec import AuditSpec
from fairaudit.subgroups import UNKNOWN, parse


def declared(audit: AuditSpec) -> dict[str, list[Policy]]:
    """Return the two families, "policies" and "hypotheses", with `reference` and `target` replaced by the plan's names.

    Raises UsageError where a policy cannot be read, occurs twice, or means a subgroup that the plan does not name.
    """
    families = {"policies": audit.policies, "hypotheses": audit.plan.hypotheses}
    return {name: [_named(policy, audit) for policy in parse_policies(texts)] for name, texts in families.items()}


def check_names(audit: AuditSpec) -> None:
    """Raise UsageError where a policy or hypothesis names no metric, or a limit or class that the metric cannot have.

    Needs no data: `fairaudit plan` calls it, too.
    """
    for policy in [p for family in declared(audit).values() for p in family]:
        metric = policy_metric(policy)
        if policy.class_ is not None and not metric.per_class:
            raise UsageError(f"policy {policy}: {metric.name} is one value for all classes; leave class= out")
        least, most = bounds(metric)
        if policy.measure in ("minimum", "maximum") and not least < policy.limit < most:
            raise UsageError(f"policy {policy}: {metric.name} lies between {least:g} and {most:g}; so must its limit")
        if policy.measure == "contrast" and not least - most < policy.limit < most - least:
            raise UsageError(f"policy {policy}: no two values of {metric.name} differ by {policy.limit:g}")
        if policy.measure == "ratio" and metric.signed:
            raise UsageError(f"policy {policy}: {metric.name} can be 0 or negative, so it has no ratio; use difference")


def declared_axes(table: Predictions, axes: Sequence[str], audit: AuditSpec) -> list[str]:
    """Return `axes`, then those that only a policy, hypothesis or population names; UsageError for an unknown one."""
    wanted = dict.fromkeys(p.by for family in declared(audit).values() for p in family)
    wanted |= dict.fromkeys(":".join(parse(by)) for by in audit.population)
    return [*axes, *choose_axes(table, [by for by in wanted if by not in axes])[0]]


def check_policies(
    table: Predictions, tasks: Sequence[str], groups: Mapping[str, pd.Categorical], audit: AuditSpec
) -> None:
    """Raise UsageError where a policy names a task, class, metric or subgroup that the audited table does not have.

    And where an exploration is asked of a table that lists equal faces once: it cannot be halved face by face.
    """
    check_names(audit)
    if audit.exploratory and table.times is not None:
        raise UsageError(
            "an exploration halves the faces one by one, persons and identical images kept whole; a table counted on "
            "disk lists none: give at most 1,000,000 faces (and no --memory), or leave --exploratory out"
        )
    for policy in [p for family in declared(audit).values() for p in family]:
        if policy.task is not None:
            lookup({task: task for task in tasks}, policy.task, f"task in policy {policy}:")
        reasons = {
            task: why_not(policy, task, table.tasks[task], has_labels(table, task), task in table.ordered)
            for task in tasks
            if policy.task in (None, task)
        }
        if all(reasons.values()):
            raise UsageError(f"policy {policy}: " + "; ".join(f"{task}: {why}" for task, why in reasons.items()))
        names = [str(name) for name in groups[policy.by].categories if name != UNKNOWN]
        for name in {policy.subgroup, policy.against} - {None, REST}:
            if name not in names:
                near = suggestion(str(name), names)
                raise UsageError(f"policy {policy}: {policy.by} has no subgroup {name!r}{near} (it has: {names})")


def _named(policy: Policy, audit: AuditSpec) -> Policy:
    """Put the plan's own subgroups in the place of `reference` and `target`."""
    known = {REFERENCE: audit.plan.reference, TARGET: audit.plan.target}

    def name(word: str | None) -> str | None:
        if word is None or word not in known:
            return word
        if policy.by not in known[word]:
            raise UsageError(f"policy {policy}: the spec's [audit.plan] names no {word} for the axis {policy.by}")
        return known[word][policy.by]

    return replace(policy, subgroup=name(policy.subgroup), against=name(policy.against))


def policy_metric(policy: Policy) -> Metric:
    """Return the metric that a policy names; UsageError with the nearest name for an unknown one."""
    known = {name: metric for name, metric in METRICS.items() if metric.kind != "count"}
    return lookup(known, policy.metric, f"metric in policy {policy}:")


def has_labels(table: Predictions, task: str) -> bool:
    """Whether any face of the table has a label of the task."""
    return f"{task}_true" in table.frame and bool(table.frame[f"{task}_true"].notna().any())


def why_not(policy: Policy, task: str, classes: Sequence[str], labelled: bool, ordered: bool) -> str:
    """Return why the policy means nothing for a task, or ""."""
    metric, by = policy_metric(policy), policy.by
    degenerate = task in parse(by)  # what only the data show is said by the verdict
    if policy.class_ is not None and policy.class_ not in classes:
        return f"no class {policy.class_!r}{suggestion(policy.class_, classes)} (classes: {', '.join(classes)})"
    if metric.labels and not labelled:
        return f"{metric.name} needs labels, and there are none"
    if metric.ordered and not ordered:
        return f"{metric.name} needs classes that have an order"
    if degenerate and not metric.degenerate:
        return f"on the axis {by} the subgroup determines the label, so {metric.name} means nothing there; use recall"
    if metric.name == BY_CLASS and not degenerate:
        return f"{metric.name} is for axes that contain the task; elsewhere it is the accuracy"
    return ""
