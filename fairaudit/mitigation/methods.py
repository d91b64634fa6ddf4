"""Every mitigation of a head by name: what it does, where it comes from, and where it needs group labels."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from fairaudit.errors import UsageError
from fairaudit.mitigation import (
    augmenting,
    bias_mimicking,
    cells,
    offsets,
    postprocessing,
    reductions,
    resampling,
    temperature,
    thresholds,
    weighted,
)
from fairaudit.mitigation.erm import erm
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
    any_axis: bool = False  # works where the axis determines the label, too
    refuse: Callable[[Problem], str | None] | None = None  # why it cannot run on these faces
    caution: Callable[[Problem], tuple[str, ...]] | None = None  # what a user should know before it runs on these faces


def fit_method(name: str, problem: Problem) -> Fitted:
    """Return the head that the method `name` fits; everything that cannot work is refused before any training.

    Raises UsageError for an unknown method, a binary method asked of more classes, and an axis that determines the
    label where the method cannot use such a one; DataError for faces that cannot teach.
    """
    method = lookup(METHODS, name, "mitigation")
    reason = refused(name, problem)
    if reason:
        raise UsageError(reason)
    return method.fit(problem)


def refused(name: str, problem: Problem) -> str | None:
    """Return why a method cannot be used on this head and axis, or None."""
    method = lookup(METHODS, name, "mitigation")
    if method.binary_only and len(problem.classes) != 2:
        return (
            f"{name} is for heads of two classes, and {problem.task} has {len(problem.classes)} "
            f"({', '.join(problem.classes)})"
        )
    if problem.degenerate and not method.any_axis:
        other = ", or joint-balancing, which allows such an axis" if method.stage == "pre" else ""
        return f"{name} is refused: {problem.degenerate}. Choose an axis without {problem.task}{other}"
    if "train" in method.groups_at and not len(cells.known(problem.train)):
        return (
            f"{name} needs training faces with a label of {problem.task} and a subgroup of {problem.by}: there are none"
        )
    return method.refuse(problem) if method.refuse else None


def cautions(name: str, problem: Problem) -> tuple[str, ...]:
    """Return what a user should know before the method is trained, in sentences: weights far over the cap, few faces.

    Only for a method that is not refused.
    """
    method = lookup(METHODS, name, "mitigation")
    return method.caution(problem) if method.caution else ()


METHODS: dict[str, Method] = {
    "erm": Method(
        fit=erm,
        stage="none",
        groups_at=(),
        summary="no mitigation: every face counts the same",
        source="Vapnik 1991",
        any_axis=True,
    ),
    "reweighing": Method(
        fit=weighted.reweighing,
        stage="pre",
        groups_at=("train", "val"),
        summary="weighs faces until label and subgroup are independent",
        source="Kamiran & Calders 2012",
        caution=partial(weighted.cautions, "reweighing"),
    ),
    "reweighing-sqrt": Method(
        fit=weighted.reweighing_sqrt,
        stage="pre",
        groups_at=("train", "val"),
        summary="weighs faces by the square roots of reweighing's weights",
        source="Kamiran & Calders 2012, Mahajan et al. 2018",
        caution=partial(weighted.cautions, "reweighing-sqrt"),
    ),
    "joint-balancing": Method(
        fit=weighted.joint_balancing,
        stage="pre",
        groups_at=("train", "val"),
        summary="weighs faces until every subgroup × label cell counts the same",
        source="Idrissi et al. 2022",
        any_axis=True,
        caution=partial(weighted.cautions, "joint-balancing"),
    ),
    "class-balancing": Method(
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
        fits=2,
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
