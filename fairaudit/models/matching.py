"""Which tensors of a weights file fit a network: names with and without common prefixes, and their shapes."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

_WRAPPERS = ("module.", "backbone.", "model.")
PREFIXES = ("", *_WRAPPERS, *(a + b for a, b in itertools.permutations(_WRAPPERS, 2)))
LISTED = 10  # names in a report


@dataclass(frozen=True, kw_only=True)
class Match:
    """Which of a network's tensors a file has.

    `matched`; `missing`; `misshapen`, there but of another shape (both are given); `unexpected`, in the file only.
    `share` (0…1) of the network's parameters matched; `prefix` was taken off the file's names.
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    misshapen: tuple[str, ...]
    unexpected: tuple[str, ...]
    share: float
    prefix: str

    def report(self) -> dict[str, Any]:
        """Return counts and first names, as a checkpoint records them."""
        kinds = ("matched", "missing", "misshapen", "unexpected")
        return {
            "share_of_parameters": self.share,
            "prefix": self.prefix,
            **{kind: {"count": len(getattr(self, kind)), "first": getattr(self, kind)[:LISTED]} for kind in kinds},
        }

    def sentence(self) -> str:
        """Return the report in words."""
        words = [f"{len(self.matched)} tensors matched ({self.share:.1%} of the parameters)"]
        for kind, text in (("missing", "missing"), ("misshapen", "of another shape"), ("unexpected", "unexpected")):
            names = getattr(self, kind)
            if names:
                more = ", …" if len(names) > 3 else ""
                words.append(f"{len(names)} {text} ({', '.join(names[:3])}{more})")
        return "; ".join(words) + (f"; the prefix {self.prefix!r} was taken off" if self.prefix else "")


def without_prefix(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """Return the file's tensors under the names that fit the most of the network's, and the prefix taken off for it."""
    best = max(PREFIXES, key=lambda prefix: sum(name.removeprefix(prefix) in own for name in state))
    return {name.removeprefix(best): value for name, value in state.items()}, best


def match(own: Mapping[str, Tensor], state: Mapping[str, Tensor], prefix: str = "") -> Match:
    """Return how the tensors of a file, `state`, fit those of a network, `own`."""
    fits = [name for name, value in own.items() if name in state and state[name].shape == value.shape]
    wrong = [name for name in own if name in state and name not in set(fits)]
    total = sum(value.numel() for value in own.values())
    return Match(
        matched=tuple(fits),
        missing=tuple(name for name in own if name not in state),
        misshapen=tuple(f"{n}: {_shape(state[n].shape)}, expected {_shape(own[n].shape)}" for n in wrong),
        unexpected=tuple(name for name in state if name not in own),
        share=sum(own[name].numel() for name in fits) / max(total, 1),
        prefix=prefix,
    )


def _shape(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape)) or "a number"
