"""A user's own metric: any function of labels and predictions, named "module:function" or passed itself.

Naming it is what runs it: nothing in a predictions table, a checkpoint or an audit folder can.
"""

import inspect
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fairaudit.errors import UsageError
from fairaudit.named_code import find_named, first_line

Function = Callable[..., Any]
_EXAMPLE = "sklearn.metrics:f1_score or my_metrics:cost"
# fairlearn gives these rates the value 0, without a warning, where the class that they are a share of has no face
_SHARE_OF = {
    **dict.fromkeys(("true_positive_rate", "false_negative_rate"), 1),
    **dict.fromkeys(("true_negative_rate", "false_positive_rate"), 0),
}


@dataclass(frozen=True, kw_only=True)
class CustomMetric:
    """A function f(y_true, y_pred) → one number.

    weighted: takes `sample_weight`; per_class: takes `pos_label`, so it is evaluated for each class against the rest.
    """

    name: str
    function: Function
    weighted: bool
    per_class: bool
    share_of: int | None = None
    known: dict[Any, tuple[float, str]] = field(default_factory=dict)

    def __call__(self, true: np.ndarray, predicted: np.ndarray, weight: np.ndarray | None) -> tuple[float, str]:
        """Return the value, or NaN and why: an exception, a value that is no number, or an undefined metric.

        Raises UsageError where the function returns no single number.
        """
        if self.share_of is not None and not (true == self.share_of).any():
            return np.nan, "no face " + ("is labelled so" if self.share_of else "is labelled otherwise")
        options: dict[str, Any] = {"sample_weight": weight} if weight is not None else {}
        if self.per_class:
            options["pos_label"] = 1
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                found = self.function(true, predicted, **options)
            except Exception as error:
                return np.nan, f"it raised {type(error).__name__}: {first_line(error)}"
        undefined = [w.message for w in said if w.category.__name__ == "UndefinedMetricWarning"]
        if undefined:
            return np.nan, f"undefined: {first_line(undefined[0])}"
        try:
            value = float(np.asarray(found).item())
        except (TypeError, ValueError):
            raise UsageError(
                f"metric {self.name} returned {type(found).__name__}, but a metric returns one number; wrap it in a "
                "function that picks one"
            ) from None
        return (value, "") if np.isfinite(value) else (np.nan, f"it returned {value}")

    def of_cells(self, cells: np.ndarray, labels: np.ndarray) -> float:
        """Return the value at these sums of faces (K, K): as weights where the function takes them, else repeated.

        labels: (K,) what the function sees of each class. NaN where undefined, or where faces that count in part
        cannot be repeated. Every table of sums is evaluated once.
        """
        key = (labels.tobytes(), cells.tobytes())
        if key not in self.known:
            row, column = np.nonzero(cells > 0)
            count = cells[row, column]
            weight: np.ndarray | None = count
            if not self.weighted:
                whole = np.rint(count).astype(np.int64)
                if not np.allclose(count, whole, rtol=0, atol=1e-9):
                    return np.nan
                row, column, weight = np.repeat(row, whole), np.repeat(column, whole), None
            self.known[key] = self(labels[row], labels[column], weight) if len(row) else (np.nan, "")
        return self.known[key][0]


def load_metrics(named: Sequence[str | Function]) -> list[CustomMetric]:
    """Return the metrics of these names ("module:function") or functions.

    Modules are looked for where python is installed, then in the current folder. Raises UsageError where one is not
    found or cannot be imported, is no function, or needs more than labels and predictions.
    """
    metrics = [
        _metric(entry, find_named(entry, "metric", _EXAMPLE))
        if isinstance(entry, str)
        else _metric(_name(entry), entry)
        for entry in named
    ]
    names = [metric.name for metric in metrics]
    if len(set(names)) < len(names):
        raise UsageError(f"audit.metrics: {', '.join(names)}: each metric can be named once")
    return metrics


def _name(function: Function) -> str:
    return f"{getattr(function, '__module__', '?')}:{getattr(function, '__qualname__', type(function).__name__)}"


def _metric(name: str, function: Function) -> CustomMetric:
    if not callable(function):
        raise UsageError(f"metric {name!r} is {type(function).__name__}, no function of labels and predictions")
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        parameters = {}  # type: ignore[assignment]
    needed = [p.name for p in parameters.values() if p.default is p.empty and p.kind not in _VARIABLE][2:]
    if needed:
        raise UsageError(
            f"metric {name!r} needs {', '.join(needed)} beside labels and predictions; an audit gives it the faces of "
            "one subgroup at a time, so name a metric of one group"
        )
    bare = str(getattr(function, "__name__", ""))
    fairlearns = str(getattr(function, "__module__", "")).startswith("fairlearn.")
    return CustomMetric(
        name=name,
        function=function,
        weighted="sample_weight" in parameters,
        per_class="pos_label" in parameters,
        share_of=_SHARE_OF.get(bare) if fairlearns else None,
    )


_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
