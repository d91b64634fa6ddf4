"""Tables made of many small blocks of columns: one frame is built at the end, as each costs more than its numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

Block = Mapping[str, Any]


def stacked(blocks: Sequence[Block]) -> pd.DataFrame:
    """Return blocks of equal columns, each a vector or a scalar (at least one a vector), below each other in one frame.

    No block gives a frame without columns.
    """
    filled = [_filled(block) for block in blocks]
    return pd.DataFrame(
        {name: np.concatenate([block[name] for block in filled]) for name in filled[0]} if filled else {}
    )


def _filled(block: Block) -> dict[str, np.ndarray]:
    length = next(len(part) for part in block.values() if isinstance(part, (np.ndarray, list)))
    return {
        name: np.asarray(part) if isinstance(part, (np.ndarray, list)) else _repeated(part, length)
        for name, part in block.items()
    }


def _repeated(value: Any, length: int) -> np.ndarray:
    return np.full(length, value, dtype=object if isinstance(value, str) else None)
