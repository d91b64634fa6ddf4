"""The tables [audit] and [report]: what is counted and tested, and what no figure can say."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_serializer, field_validator

from fairaudit.errors import UsageError
from fairaudit.policies import parse_policies
from fairaudit.population import check_shares
from fairaudit.spec.part import SpecPart


class PlanSpec(SpecPart):
    """What is asked before the test set is looked at; `fairaudit plan` freezes it."""

    hypotheses: tuple[str, ...] = Field(
        (), description="written like policies; reported as supported, contradicted or inconclusive"
    )
    reference: dict[str, str] = Field(
        default_factory=dict, description="per axis: the subgroup meant by against=reference"
    )
    target: dict[str, str] = Field(
        default_factory=dict, description="per axis: the subgroup to be helped, meant by subgroup=target"
    )

    @field_validator("hypotheses")
    @classmethod
    def _readable(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        return _policies(texts)


def _policies(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Return the canonical texts of policies; ValueError (for pydantic) where one cannot be read or occurs twice."""
    try:
        return tuple(str(policy) for policy in parse_policies(texts))
    except UsageError as error:
        raise ValueError(str(error)) from None


_Share = Annotated[float, Field(ge=0, lt=1)]
_Flips = tuple[tuple[Annotated[float, Field(ge=0, le=1)], ...], ...]


class LabelNoiseSpec(SpecPart):
    """How wrong labels may be. Without any rate only a bound over `grid` is computed, for each axis's headline gap.

    A rate is the share of labels that are wrong. Where several apply (of the task, a subgroup, a class), the largest
    counts; an intersection takes the rate of its parts unless it is named itself.
    """

    rate: _Share | None = Field(None, description="share of wrong labels, in every subgroup and class")
    subgroups: dict[str, _Share] = Field(default_factory=dict, description="the same per subgroup: {Black = 0.1}")
    classes: dict[str, _Share] = Field(default_factory=dict, description="the same per class: {'70+' = 0.15}")
    matrix: dict[str, _Flips] = Field(
        default_factory=dict,
        description="per task: P(label | truth), a row a true class in the task's order; each row sums to 1",
    )
    membership: dict[str, _Share | _Flips] = Field(
        default_factory=dict,
        description="per axis: share of faces in a wrong subgroup (spread evenly), or P(labelled | true subgroup)",
    )
    grid: tuple[Annotated[float, Field(gt=0, lt=0.5)], ...] = (0.01, 0.02, 0.05, 0.10)

    @field_validator("matrix", "membership")
    @classmethod
    def _rows_sum_to_one(cls, given: dict[str, Any]) -> dict[str, Any]:
        for name, rows in given.items():
            if isinstance(rows, float):
                continue
            if any(len(row) != len(rows) for row in rows) or any(abs(sum(row) - 1) > 1e-6 for row in rows):
                raise ValueError(f"{name}: a square matrix is needed, each row summing to 1")
        return given

    @property
    def stated(self) -> bool:
        """Whether any rate of wrong labels is stated."""
        return bool(self.rate is not None or self.subgroups or self.classes)


class SelectionSpec(SpecPart):
    """The output that selects people: impact ratios are about it, and about no label head."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, serialize_by_alias=True)

    task: str
    class_: str = Field(alias="class", description="the class that means: selected")


class AuditSpec(SpecPart):
    """What is audited, and by which subgroups."""

    subgroups: tuple[str, ...] | None = Field(None, description="axes such as 'race' or 'race:gender'")
    min_group_size: int = Field(30, ge=1)
    confidence: float = Field(0.95, gt=0.5, lt=1)
    interval: Literal["wilson", "clopper-pearson"] = Field(
        "wilson",
        description="limits of a proportion: wilson covers the confidence on average, clopper-pearson at least",
    )
    draws: int = Field(2000, ge=100, description="draws of the bootstrap where no closed form exists, and of the null")
    multiplicity: Literal["max-t", "benjamini-hochberg"] = Field(
        "max-t",
        description="how p-values of findings are adjusted: max-t bounds the chance of any false finding in a family, "
        "benjamini-hochberg the expected share of false ones among those found",
    )
    policies: tuple[str, ...] = Field((), description="limits such as 'difference(recall, race:gender) <= 0.05'")
    plan: PlanSpec = PlanSpec()
    exploratory: bool = Field(False, description="discover contrasts on one half of the faces, confirm on the other")
    population: dict[str, dict[str, float]] = Field(
        default_factory=dict,
        description="per axis: the share of each subgroup where the model is to be used; or, in a TOML file, the name "
        "of a CSV of cells beside it",
    )
    adjust_for: tuple[str, ...] = Field(
        (),
        description="covariates at whose common mix gaps are compared, too: columns such as 'age' or 'brightness' "
        "(numbers are put into quantile bins), and 'label_mix', the task's own labels",
    )
    adjust_to: str = Field(
        "pooled",
        description="the mix of covariates: 'pooled' (all faces of known subgroup) or 'attribute=value' (those faces)",
    )
    label_noise: LabelNoiseSpec = LabelNoiseSpec()
    metrics: tuple[str | Callable[..., Any], ...] = Field(
        (),
        description="further metrics f(y_true, y_pred) as 'module:function': installed, or in the current folder; in "
        "Python also the function itself",
    )
    selection: SelectionSpec | None = Field(
        None, description="where the audited output is a selection: {task = 'hired', class = 'yes'}"
    )

    @field_validator("policies")
    @classmethod
    def _readable(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        return _policies(texts)

    @field_serializer("metrics")
    def _named(self, metrics: tuple[str | Callable[..., Any], ...]) -> list[str]:
        return [m if isinstance(m, str) else f"{m.__module__}:{getattr(m, '__qualname__', '?')}" for m in metrics]

    @field_validator("population")
    @classmethod
    def _shares(cls, population: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
        try:
            for by, shares in population.items():
                check_shares(by, shares)
        except UsageError as error:
            raise ValueError(str(error)) from None
        return population

    @field_validator("subgroups")
    @classmethod
    def _axes(cls, axes: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if axes is not None and len(set(axes)) != len(axes):
            raise ValueError("an axis is named twice")
        return axes


_Said = Annotated[str, Field(max_length=2000)]


class ReportSpec(SpecPart):
    """What no figure can say: what the model is for, who answers for it, on what terms. Printed as it is written."""

    intended_use: _Said = Field("", description="what the model is meant to do, for whom and where")
    out_of_scope: tuple[_Said, ...] = Field((), description="uses that it is not meant for")
    provider: _Said = Field("", description="who provides the model")
    responsible: _Said = Field("", description="the person who answers for this report, and signs it")
    contact: _Said = Field("", description="where questions and complaints go")
    licence: _Said = Field("", description="the licence of the model, such as apache-2.0")
    data_set: _Said = Field("", description="what the audited faces are (utkface, fairface, …), where it is not known")
    data_terms: _Said = Field("", description="the terms under which the faces may be used")
    acknowledge_race_head: _Said = Field(
        "",
        description="'NAME, purpose': who has read the legal notice on heads that infer race, and what such a head is "
        "for",
    )

    @field_validator("acknowledge_race_head")
    @classmethod
    def _names_both(cls, text: str) -> str:
        try:
            return acknowledgement(text) if text else ""
        except UsageError as error:
            raise ValueError(str(error)) from None


def acknowledgement(text: str) -> str:
    """Return who acknowledges a head that infers race, and for what; UsageError unless both are named."""
    who, comma, purpose = (part.strip() for part in text.partition(","))
    if not (who and comma and purpose):
        raise UsageError(f"the acknowledgement {text!r} must be 'NAME, purpose': who has read the notice, and for what")
    return f"{who}, {purpose}"
