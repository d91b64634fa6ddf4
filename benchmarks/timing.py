"""What every benchmark here shares: both sides in turn, CPU seconds, one ratio."""

import time
from collections.abc import Callable, Mapping
from typing import Any


def alternate(sides: Mapping[str, Callable[[], Any]], rounds: int) -> tuple[dict[str, float], dict[str, Any]]:
    """Run the sides in turn, `rounds` times each; return each one's least CPU seconds and its last result.

    CPU seconds of the whole process, not wall time: on a machine that others use, too, wall time measures them. Every
    side should compute in one thread, because threads that wait for each other burn CPU time.
    """
    least = dict.fromkeys(sides, float("inf"))
    results: dict[str, Any] = {}
    for _ in range(rounds):
        for name, side in sides.items():
            began = time.process_time()
            results[name] = side()
            least[name] = min(least[name], time.process_time() - began)
    return least, results
