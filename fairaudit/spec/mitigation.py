"""The tables [[mitigations]] and [mitigate]: what is done against a bias that was found."""

from typing import Literal

from pydantic import Field

from fairaudit.spec.part import SpecPart


class MitigationSpec(SpecPart):
    """Mitigated models to train beside the baseline."""

    method: str
    by: str = Field(description="the axis whose subgroups × the task's classes are reweighed")
    tasks: tuple[str, ...] | None = Field(None, description="heads that are mitigated; default: all that `by` allows")
    cap: float = Field(10.0, gt=1, description="largest weight of a face")


class MitigateSpec(SpecPart):
    """What `fairaudit mitigate` runs: methods × seeds on cached embeddings, compared with plainly trained heads."""

    methods: tuple[str, ...] = Field((), description="default: every method that the head and the axis allow")
    by: str | None = Field(
        None, description="the axis whose subgroups are to be treated alike; default: the audit's first"
    )
    tasks: tuple[str, ...] | None = Field(
        None, description="heads; default: all whose label the axis does not determine"
    )
    seeds: int = Field(5, ge=1, description="repetitions; fewer than 3 recommend nothing")
    select: Literal["overall", "worst-subgroup", "pareto", "equalized-odds"] = Field(
        "worst-subgroup", description="what epochs and candidates of a method are chosen by, on validation faces"
    )
    margin: float = Field(0.02, gt=0, lt=0.5, description="loss of a subgroup's accuracy that still counts as no harm")
    cap: float = Field(10.0, gt=1, description="largest weight of a face")
    hidden: int = Field(0, ge=0, description="units of a hidden layer; 0: a linear head")
    dropout: float = Field(0.2, ge=0, lt=1, description="of the hidden layer")
    epochs: int = Field(20, ge=1)
    batch_size: int = Field(512, ge=2)
    learning_rate: float = Field(3e-3, gt=0)
    weight_decay: float = Field(0.02, ge=0)
