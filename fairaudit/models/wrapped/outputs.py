"""From the outputs of a wrapped model to logits of each task, as its description says where they are."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairaudit.errors import DataError
from fairaudit.models.wrapped.description import SINGLE, TaskDescription

Outputs = dict[str, Tensor]
_SMALLEST = 1e-30  # a probability of 0 has no logarithm
_SUM_ERROR = 1e-2  # by how much probabilities may miss 1: float16 outputs do by some thousandths


def named_outputs(raw: Any) -> Outputs:
    """Return what a model gave, a tensor, a sequence or a mapping, as tensors (n, columns) by name or number.

    Raises DataError for anything else.
    """
    if isinstance(raw, Mapping):
        found = {str(name): value for name, value in raw.items()}
    elif isinstance(raw, Sequence) and not isinstance(raw, str):
        found = {str(number): value for number, value in enumerate(raw)}
    else:
        found = {"0": raw}
    made = {}
    for name, value in found.items():
        if isinstance(value, (np.ndarray, list)):
            value = torch.as_tensor(np.asarray(value))
        if not isinstance(value, Tensor):
            raise DataError(f"the model's output {name!r} is {type(value).__name__}, no array of numbers")
        value = value.float()
        made[name] = value.reshape(len(value), -1) if value.dim() else value.reshape(1, 1)
    if not made:
        raise DataError("the model gave no output at all")
    return made


def places(tasks: Mapping[str, TaskDescription], widths: Mapping[str, int]) -> dict[str, tuple[str, slice]]:
    """Return each task's output and columns in a model whose outputs have these widths, in order.

    Raises DataError where an output is not there, or where the outputs are not those that the classes need.
    """
    found: dict[str, tuple[str, slice]] = {}
    following: dict[str, int] = {}
    for task, described in tasks.items():
        name = _output(task, described.output, widths)
        start, stop = described.columns or (following.get(name, 0), following.get(name, 0) + described.width)
        following[name] = stop
        if stop > widths[name]:
            raise DataError(_mismatch(tasks, name, widths[name], stop))
        found[task] = (name, slice(start, stop))
    for name, stop in following.items():
        explicit = any(d.columns for task, d in tasks.items() if found[task][0] == name)
        if stop < widths[name] and not explicit:
            raise DataError(_mismatch(tasks, name, widths[name], stop))
    return found


def _output(task: str, wanted: str | int | None, widths: Mapping[str, int]) -> str:
    names = list(widths)
    if wanted is None:
        return task if task in widths else names[0]
    if isinstance(wanted, int) and 0 <= wanted < len(names):
        return names[wanted]
    if str(wanted) in widths:
        return str(wanted)
    raise DataError(f"tasks.{task}.output = {wanted!r}: the model has no such output (it has: {', '.join(names)})")


def _mismatch(tasks: Mapping[str, TaskDescription], name: str, width: int, needed: int) -> str:
    heads = ", ".join(f"{task} {described.width}" for task, described in tasks.items())
    return (
        f"the model's output {name!r} has {width} columns, but the description needs {needed} ({heads}): name every "
        "class in the order of the outputs, or say with `columns` which ones a head reads"
    )


def logits_of(
    outputs: Outputs, where: Mapping[str, tuple[str, slice]], tasks: Mapping[str, TaskDescription]
) -> Outputs:
    """Return each task's logits (n, K) of its merged classes, up to a number that a face's logits share."""
    made = {}
    for task, described in tasks.items():
        name, columns = where[task]
        made[task] = _merge(_logits(outputs[name][:, columns], described, task), described)
    return made


def _logits(values: Tensor, described: TaskDescription, task: str) -> Tensor:
    if described.values in ("probabilities", "probability"):
        _check_probabilities(values.detach(), described, task)
        if described.values in SINGLE:
            values = torch.cat([1 - values, values], 1)
        return values.clamp(min=_SMALLEST).log()
    return torch.cat([torch.zeros_like(values), values], 1) if described.values in SINGLE else values


def _check_probabilities(values: Tensor, described: TaskDescription, task: str) -> None:
    known = values[values.isfinite().all(1)]
    sums = known.sum(1) if described.values not in SINGLE else torch.ones(len(known), device=values.device)
    if len(known) and (
        known.min() < -_SUM_ERROR or known.max() > 1 + _SUM_ERROR or (sums - 1).abs().max() > _SUM_ERROR
    ):
        raise DataError(
            f"tasks.{task}.values = {described.values!r}, but the model gave values from {float(known.min()):.3g} to "
            f"{float(known.max()):.3g} that are no probabilities of these classes; are they logits, or other columns?"
        )


def _merge(logits: Tensor, described: TaskDescription) -> Tensor:
    """Add up the probabilities of classes that have one name."""
    if len(described.merged) == len(described.classes):
        return logits
    groups = [[i for i, name in enumerate(described.classes) if name == own] for own in described.merged]
    return torch.stack([logits[:, group].logsumexp(1) for group in groups], 1)
