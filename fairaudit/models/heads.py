"""Heads: a task's own layers, and what comes out of them: classes, classes in order, or an age in years."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairaudit.errors import UsageError
from fairaudit.registry import lookup
from fairaudit.spec import HeadSpec

AGE, AGE_YEARS = "age", "age_years"
PLAIN = HeadSpec()
MIDDLE, SPREAD = 35.0, 20.0  # years: where an untrained head of years stands, and what one unit of its output means
STEEPNESS = 5.0  # logits a unit of an ordinal head's score: its few parameters must go far at the others' learning rate
WINDOW = 0.4  # units of score that an untrained ordinal head gives each class between the first and the last
SMALLEST_GAP = 1e-3  # between two thresholds, so that no class in between becomes impossible

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


class Ordinal(nn.Module):
    """Log probabilities (N, K) of K ordered classes from one score and K − 1 thresholds that keep their order.

    P(class ≥ k) = σ(5 (score + b_k)) with b_1 > b_2 > …, so that no probability can be negative: the cumulative link
    model (McCullagh, JRSS B 1980), and CORAL's shared weights and K − 1 biases (Cao et al., PRL 2020), whose
    biases are in order at CORAL's optimum and are so here all along.
    """

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.score = nn.Linear(inputs, 1, bias=False)
        self.first = nn.Parameter(torch.tensor([WINDOW * (classes - 2) / 2]))
        self.gaps = nn.Parameter(torch.full((classes - 2,), math.log(math.expm1(WINDOW - SMALLEST_GAP))))

    def forward(self, x: Tensor) -> Tensor:
        """Return the log probabilities (N, K), float32, of hidden values (N, inputs)."""
        gap = F.softplus(self.gaps.float()) + SMALLEST_GAP
        biases = torch.cat([self.first.float(), self.first.float() - gap.cumsum(0)])
        reached = STEEPNESS * (self.score(x).float() + biases)  # logit of P(class ≥ k), k = 1 … K − 1
        edge = reached.new_zeros(len(x), 1)
        at_least = torch.cat([edge, F.logsigmoid(reached)], 1)
        at_most = torch.cat([F.logsigmoid(-reached), edge], 1)
        # σ(a) − σ(b) = σ(a) σ(−b) (1 − e^(b − a)), and a − b is the gap between two thresholds
        inner = torch.log(-torch.expm1(-STEEPNESS * gap))
        return at_least + at_most + F.pad(inner, (1, 1))


class Years(nn.Module):
    """An age in years, (N, 1), float32, from hidden values (N, inputs)."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.out = nn.Linear(inputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return ages in years (N, 1); an untrained head may leave 0…120."""
        return self.out(x).float() * SPREAD + MIDDLE


def layers(inputs: int, widths: Sequence[int], activation: str, dropout: float) -> list[nn.Module]:
    """Return fully connected layers of these widths, each with batch norm, activation and dropout."""
    made: list[nn.Module] = []
    for before, width in itertools.pairwise((inputs, *widths)):
        made += [nn.Linear(before, width, bias=False), nn.BatchNorm1d(width), ACTIVATIONS[activation]()]
        made.append(nn.Dropout(dropout))
    return made


def build_heads(
    inputs: int, classes: Mapping[str, Sequence[str]], heads: Mapping[str, HeadSpec], activation: str, dropout: float
) -> tuple[tuple[str, ...], nn.ModuleList]:
    """Return the names of the outputs and a module for each: every task's head, then `age_years` where it is asked for.

    Raises UsageError for a head of no task, an ordinal one of fewer than three classes, or years of another task.
    """
    check_heads(classes, heads)
    names, made = [], []
    for task, labels in classes.items():
        spec = heads.get(task, PLAIN)
        last = nn.Linear if spec.kind == "softmax" else Ordinal
        names.append(task)
        made.append(_head(inputs, spec, activation, dropout, partial(_last, last, len(labels))))
    if has_years(heads):
        names.append(AGE_YEARS)
        made.append(_head(inputs, heads[AGE], activation, dropout, Years))
    return tuple(names), nn.ModuleList(made)


def _last(kind: Callable[[int, int], nn.Module], classes: int, inputs: int) -> nn.Module:
    return kind(inputs, classes)


def _head(inputs: int, spec: HeadSpec, activation: str, dropout: float, last: Callable[[int], nn.Module]) -> nn.Module:
    rate = dropout if spec.dropout is None else spec.dropout
    own = layers(inputs, spec.hidden, spec.activation or activation, rate)
    final = last(spec.hidden[-1] if spec.hidden else inputs)
    return nn.Sequential(*own, final) if own else final


def has_years(heads: Mapping[str, HeadSpec]) -> bool:
    """Return whether the age in years is predicted, too."""
    return AGE in heads and heads[AGE].years != "none"


def check_heads(classes: Mapping[str, Sequence[str]], heads: Mapping[str, HeadSpec]) -> None:
    """Raise UsageError where a head cannot be built for these classes."""
    for task, spec in heads.items():
        labels = lookup(classes, task, "task (head) of model.heads")
        if spec.kind != "softmax" and len(labels) < 3:
            raise UsageError(
                f"model.heads.{task}.kind = {spec.kind!r} needs three or more classes, it has {len(labels)}"
            )
        if spec.years != "none" and task != AGE:
            raise UsageError(f"model.heads.{task}.years: only the head 'age' can have its age in years predicted")


def smallest_size(shared: Sequence[int], heads: Mapping[str, HeadSpec], classes: Mapping[str, Sequence[str]]) -> int:
    """Return how many parameters shared layers and heads have at least, whatever the backbone's width."""
    chains = [tuple(shared)]
    start = shared[-1] if shared else 1
    for task, labels in classes.items():
        spec = heads.get(task, PLAIN)
        chains.append((start, *spec.hidden, len(labels) if spec.kind == "softmax" else 1))
        if spec.years != "none":
            chains.append((start, *spec.hidden, 1))
    return sum(a * b for chain in chains for a, b in itertools.pairwise(chain))
