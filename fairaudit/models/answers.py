"""What a checkpoint with refitted heads says: their answers from the network's embeddings, and their layers."""

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from fairaudit import subgroups
from fairaudit.errors import UsageError
from fairaudit.mitigation.refitted import RefittedHead, load_heads
from fairaudit.models.classifier import FaceClassifier

EMBEDDINGS = "__embeddings__"  # beside the tasks' probabilities, where refitted heads ask for them
Outputs = Mapping[str, np.ndarray]
Decide = Callable[[Outputs, np.ndarray], tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]
"""(outputs of a batch, its rows of the table) → probabilities (n, K) and class codes (n,) a task; ages in years have no
codes. NaN in, NaN out, with code −1."""


def check_groups(heads: Sequence[RefittedHead], columns: Sequence[str]) -> list[str]:
    """Return a sentence for each head that decides by subgroup; UsageError where the faces lack its attribute."""
    said = []
    for head in heads:
        if head.fitted.uses_group:
            subgroups.require(columns, [head.by], f"the faces, and the head {head.task} ({head.method}) decides by it")
            said.append(f"the head {head.task} ({head.method}) reads each face's {head.by} and decides by it")
    return said


def decider(heads: Sequence[RefittedHead], frame: pd.DataFrame) -> Decide:
    """Return the function that turns a model's outputs into answers; `frame` holds the faces that rows refer to."""

    def decide(outputs: Outputs, rows: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        probs = {name: values for name, values in outputs.items() if name != EMBEDDINGS}
        labels = {name: _largest(values) for name, values in probs.items() if values.shape[1] > 1}
        for head in heads:
            x = outputs[EMBEDDINGS]
            known = np.asarray(np.isfinite(x).all(1))
            answers = head.answer(np.where(known[:, None], x, 0), frame.iloc[rows])
            probs[head.task] = np.where(known[:, None], answers.probabilities, np.nan).astype(np.float32)
            labels[head.task] = np.where(known, answers.labels, -1)
        return probs, labels

    return decide


def _largest(probabilities: np.ndarray) -> np.ndarray:
    whole = np.isfinite(probabilities).all(1)
    return np.where(whole, np.nan_to_num(probabilities, nan=-1.0).argmax(1), -1)


class Layers(nn.Module):
    """A refitted softmax head as layers: embeddings (N, d) → logits (N, K)."""

    def __init__(self, head: RefittedHead) -> None:
        super().__init__()
        arrays = head.fitted.arrays
        names = [name for name in ("hidden", "") if f"{name}{'_' if name else ''}weight" in arrays]
        made: list[nn.Module] = []
        for name in names:
            weight, bias = (arrays[f"{name}{'_' if name else ''}{end}"] for end in ("weight", "bias"))
            layer = nn.Linear(weight.shape[1], weight.shape[0])
            layer.load_state_dict({"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)})
            made += [layer, *([nn.ReLU()] if name else [])]
        self.layers = nn.Sequential(*made)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return the logits."""
        logits: Tensor = self.layers(embeddings)
        return logits


class RefittedNetwork(FaceClassifier):
    """A copy of a classifier whose heads of some tasks were fitted again on its embeddings."""

    refitted: nn.ModuleDict
    places: dict[str, str]

    def classify(self, embeddings: Tensor) -> dict[str, Tensor]:
        """Return each task's logits (N, K) from pooled embeddings, those of refitted heads by their own layers."""
        logits = super().classify(embeddings)
        return logits | {task: self.refitted[place](embeddings) for task, place in self.places.items()}


def with_heads(model: FaceClassifier, heads: Sequence[RefittedHead]) -> FaceClassifier:
    """Return the network that computes with the refitted heads; `model` itself where there are none.

    Raises UsageError for a head that is no layer of a network: one that decides by subgroup, thresholds, several heads.
    """
    if not heads:
        return model
    if reason := _no_layers(heads):
        raise UsageError(f"attribution follows gradients, and {reason}: nothing to attribute")
    whole = copy.deepcopy(model)
    whole.__class__ = RefittedNetwork
    assert isinstance(whole, RefittedNetwork)
    whole.places = {head.task: str(place) for place, head in enumerate(heads)}
    whole.refitted = nn.ModuleDict({str(place): Layers(head) for place, head in enumerate(heads)})
    return whole.eval()


def no_layers(checkpoint: Path) -> str | None:
    """Return why a checkpoint folder's refitted heads cannot be attributed; None where they can, or there are none."""
    return _no_layers(load_heads(checkpoint / "heads")) if (checkpoint / "heads.json").exists() else None


def _no_layers(heads: Sequence[RefittedHead]) -> str | None:
    for head in heads:
        if head.fitted.kind != "softmax":
            return f"the head {head.task} of {head.method} is no layer of the network (it is {head.fitted.kind})"
    return None
