"""Every mitigation of a head by name: what it does, where it comes from, and where it needs group labels."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from fairaudit.errors import UsageError
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
    binary_only: bool = False
    any_axis: bool = False  # works where the axis determines the label, too


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
        return f"{name} is refused: {problem.degenerate}. Choose an axis without {problem.task}"
    return None


METHODS: dict[str, Method] = {
    "erm": Method(fit=erm, stage="none", groups_at=(), any_axis=True),
}
