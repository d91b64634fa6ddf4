"""Every mitigation of a head by name: what it does, where it comes from, and where it needs group labels."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from fairaudit.errors import UsageError
from fairaudit.mitigation import (
    augmenting,
    bias_mimicking,
    cells,
    last_layer,
    offsets,
    postprocessing,
    reductions,
    resampling,
    selection,
    temperature,
    thresholds,
    weighted,
)
from fairaudit.mitigation.checks import check_problem
from fairaudit.mitigation.class_balanced import class_balanced
from fairaudit.mitigation.domain_independent import domain_cautions, domain_independent
from fairaudit.mitigation.erm import erm
from fairaudit.mitigation.fairness_penalty import fairness_penalty
from fairaudit.mitigation.group_dro import group_dro
from fairaudit.mitigation.logit_adjusted import group_logit_adjusted, logit_adjusted
from fairaudit.mitigation.problem import Fitted, Problem
from fairaudit.registry import lookup

Where = Literal["train", "val", "test"]


@dataclass(frozen=True, kw_only=True)
class Method:
    """A mitigation: `fit(problem) → Fitted`, when it acts, and where it needs each face's subgroup."""

    fit: Callable[[Problem], Fitted]
    stage: Literal["none", "pre", "in", "post"]
    groups_at: tuple[Where, ...]
    summary: str  # what it does, in half a sentence
    source: str  # author and year; the whole reference stands in its module
    fits: int = 1  # heads trained, candidates included
    binary_only: bool = False
    caps: bool = False  # whether it holds weights of faces to the `cap` of the settings
    any_axis: bool = False  # works where the axis determines the label, too
    refuse: Callable[[Problem], str | None] | None = None  # why it cannot run on these faces
    caution: Callable[[Problem], tuple[str, ...]] | None = None  # what a user should know before it runs on these faces


def fit_method(name: str, problem: Problem) -> Fitted:
    """Return the head that the method `name` fits; everything that cannot work is refused before any training.

    Raises UsageError for an unknown method, a binary method asked of more classes, an axis that determines the label
    where the method cannot use such a one, and faces that this method cannot use; DataError for faces that no method
    can (`check_problem`).
    """
    method = lookup(METHODS, name, "mitigation")
    check_problem(problem)
    reason = refused(name, problem)
    if reason:
        raise UsageError(reason)
    return method.fit(problem)


def refused(name: str, problem: Problem) -> str | None:
    """Return why a method cannot be used on this head, axis and faces, or None."""
    method = lookup(METHODS, name, "mitigation")
    if method.binary_only and len(problem.classes) != 2:
        return (
            f"{name} is for heads of two classes, and {problem.task} has {len(problem.classes)} "
            f"({', '.join(problem.classes)})"
        )
    if problem.degenerate and not method.any_axis:
        other = ", or a method for any axis, such as joint-balancing"
        return f"{name} is refused: {problem.degenerate}. Choose an axis without {problem.task}{other}"
    there = np.unique(problem.train.g[cells.known(problem.train)])
    if {"train", "test"} & set(method.groups_at) and len(there) < 2:
        found = f"all of them are {problem.groups[there[0]]}" if len(there) else "none of them has a known subgroup"
        return (
            f"{name} compares subgroups of {problem.by}, and of the labelled training faces {found}: there is nothing "
            "to balance. Choose another axis"
        )
    return method.refuse(problem) if method.refuse else None


def cautions(name: str, problem: Problem) -> tuple[str, ...]:
    """Return what a user should know before the method is trained, in sentences; only for one that is not refused."""
    method = lookup(METHODS, name, "mitigation")
    return method.caution(problem) if method.caution else ()


def empty_cells(problem: Problem) -> tuple[str, ...]:
    """Return a sentence on subgroup × label cells without a training face, where there are any."""
    said = cells.empty(problem)
    return (said,) if said else ()


METHODS: dict[str, Method] = {
    "erm": Method(
        fit=erm,
        stage="none",
        groups_at=(),
        summary="no mitigation: every face counts the same",
        source="Vapnik 1991",
        any_axis=True,
    ),
    "selection": Method(
        fit=selection.selection,
        stage="in",
        groups_at=("val",),
        summary="plain training, its epoch chosen as every other method's is",
        source="Zong, Yang & Hospedales 2023",
        any_axis=True,
        refuse=selection.refuse,
    ),
    "reweighing": Method(
        caps=True,
        fit=weighted.reweighing,
        stage="pre",
        groups_at=("train", "val"),
        summary="weighs faces until label and subgroup are independent",
        source="Kamiran & Calders 2012",
        caution=partial(weighted.cautions, "reweighing"),
    ),
    "reweighing-sqrt": Method(
        caps=True,
        fit=weighted.reweighing_sqrt,
        stage="pre",
        groups_at=("train", "val"),
        summary="weighs faces by the square roots of reweighing's weights",
        source="Kamiran & Calders 2012, Mahajan et al. 2018",
        caution=partial(weighted.cautions, "reweighing-sqrt"),
    ),
    "joint-balancing": Method(
        caps=True,
        fit=weighted.joint_balancing,
        stage="pre",
        groups_at=("train", "val"),
        summary="weighs faces until every subgroup × label cell counts the same",
        source="Idrissi et al. 2022",
        any_axis=True,
        caution=partial(weighted.cautions, "joint-balancing"),
    ),
    "class-balancing": Method(
        caps=True,
        fit=weighted.class_balancing,
        stage="pre",
        groups_at=("val",),
        summary="weighs faces until every class counts the same",
        source="King & Zeng 2001",
        any_axis=True,
        caution=partial(weighted.cautions, "class-balancing"),
    ),
    "undersampling": Method(
        fit=resampling.undersampling,
        stage="pre",
        groups_at=("train", "val"),
        summary="drops faces until every subgroup × label cell is as small as the smallest",
        source="Idrissi et al. 2022",
        caution=resampling.sampling_cautions,
    ),
    "oversampling": Method(
        fit=resampling.oversampling,
        stage="pre",
        groups_at=("train", "val"),
        summary="draws every subgroup × label cell equally often, repeating faces of rare ones",
        source="Idrissi et al. 2022",
        caution=partial(resampling.sampling_cautions, dropping=False),
    ),
    "bias-mimicking": Method(
        caps=True,
        fit=bias_mimicking.bias_mimicking,
        stage="pre",
        groups_at=("train", "val"),
        summary="tells each class from the others where these mimic its mix of subgroups",
        source="Qraitem et al. 2023",
        refuse=bias_mimicking.no_common_subgroups,
        caution=bias_mimicking.mimicking_cautions,
    ),
    "group-aware-augmentation": Method(
        fit=augmenting.group_aware_augmentation,
        stage="pre",
        groups_at=("train", "val"),
        summary="draws cells equally often, and repeated faces as augmented views",
        source="Shorten & Khoshgoftaar 2019",
        refuse=augmenting.no_views,
        caution=partial(resampling.sampling_cautions, dropping=False),
    ),
    "group-dro": Method(
        caps=True,
        fit=group_dro,
        stage="in",
        groups_at=("train", "val"),
        summary="minimises the loss of the worst subgroup × label cell",
        source="Sagawa et al. 2020",
        fits=4,
        any_axis=True,
        caution=empty_cells,
    ),
    "domain-independent": Method(
        fit=domain_independent,
        stage="in",
        groups_at=("train", "val"),
        summary="a head a subgroup, averaged at test time",
        source="Wang et al. 2020",
        fits=2,
        caution=domain_cautions,
    ),
    "class-balanced": Method(
        caps=True,
        fit=class_balanced,
        stage="in",
        groups_at=("val",),
        summary="weighs classes by the inverse of their effective number of faces",
        source="Cui et al. 2019",
        fits=4,
        any_axis=True,
    ),
    "logit-adjusted": Method(
        fit=logit_adjusted,
        stage="in",
        groups_at=("val",),
        summary="leaves the shares of the classes out of the answers",
        source="Menon et al. 2021",
        fits=3,
        any_axis=True,
    ),
    "group-logit-adjusted": Method(
        fit=group_logit_adjusted,
        stage="in",
        groups_at=("train", "val"),
        summary="leaves the shares of the classes within each subgroup out of the answers",
        source="Kini et al. 2021",
        fits=3,
        caution=empty_cells,
    ),
    "fairness-penalty": Method(
        fit=fairness_penalty,
        stage="in",
        groups_at=("train", "val"),
        summary="penalises differences of the subgroups' soft recalls",
        source="Bechavod & Ligett 2017",
        fits=3,
        caution=empty_cells,
    ),
    "last-layer-retraining": Method(
        fit=last_layer.last_layer_retraining,
        stage="in",
        groups_at=("val",),
        summary="trains the last layer anew on balanced validation faces, ten times, and averages",
        source="Kirichenko et al. 2023",
        fits=40,
        any_axis=True,
        refuse=last_layer.too_few,
        caution=last_layer.half_cautions,
    ),
    "exponentiated-gradient": Method(
        fit=reductions.exponentiated_gradient,
        stage="in",
        groups_at=("train",),
        summary="a randomised mixture of heads that equalises odds in training",
        source="Agarwal et al. 2018",
        fits=100,
        binary_only=True,
        refuse=reductions.lacking,
        caution=reductions.reduction_cautions,
    ),
    "grid-search": Method(
        fit=reductions.grid_search,
        stage="in",
        groups_at=("train", "val"),
        summary="the best of a grid of heads that weigh equalised odds differently",
        source="Agarwal et al. 2018",
        fits=reductions.GRID,
        binary_only=True,
        refuse=reductions.lacking,
        caution=reductions.grid_cautions,
    ),
    "group-thresholds": Method(
        fit=thresholds.group_thresholds,
        stage="post",
        groups_at=("val", "test"),
        summary="decides by thresholds of each subgroup that equalise its odds",
        source="Hardt et al. 2016",
        binary_only=True,
        refuse=thresholds.no_curves,
        caution=thresholds.thin_subgroups,
    ),
    "group-offsets": Method(
        fit=offsets.group_offsets,
        stage="post",
        groups_at=("val", "test"),
        summary="moves each class's score by an offset of the subgroup",
        source="Hardt et al. 2016",
        refuse=postprocessing.too_few,
        caution=postprocessing.unadjusted,
    ),
    "inferred-group-offsets": Method(
        fit=offsets.inferred_group_offsets,
        stage="post",
        groups_at=("train", "val"),
        summary="moves each class's score by an offset of the subgroup that it infers",
        source="Hardt et al. 2016",
        fits=4,
        refuse=postprocessing.too_few,
        caution=postprocessing.unadjusted,
    ),
    "prior-temperature": Method(
        fit=temperature.prior_temperature,
        stage="post",
        groups_at=("val", "test"),
        summary="calibrates each subgroup and takes its class shares out",
        source="Platt 1999, Saerens et al. 2002, Guo et al. 2017",
        refuse=postprocessing.too_few,
        caution=postprocessing.unadjusted,
    ),
}
