"""What a reduced precision, or compiling, costs: how many predicted classes it changes, on a sample of the faces."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from fairaudit.metrics.intervals import wilson, z_value
from fairaudit.models.answers import Decide
from fairaudit.models.protocol import Forward
from fairaudit.models.reading import Batch

SAMPLE = 500  # faces


class FlipCheck:
    """Asks the float32 model `exact` again about at most `SAMPLE` of `count` faces, spread evenly over the table."""

    def __init__(self, exact: Forward, decide: Decide, tasks: Iterable[str], count: int) -> None:
        self.exact, self.decide, self.tasks = exact, decide, tuple(tasks)
        self.sample = np.unique(np.linspace(0, max(count - 1, 0), min(count, SAMPLE)).astype(np.int64))
        self.faces = 0
        self.flipped: dict[str, int] = {}

    def compare(self, batch: Batch, labels: Mapping[str, np.ndarray]) -> None:
        """Count the faces of the sample in this batch whose class code in `labels` is not the exact one."""
        rows = self.sample[(self.sample >= batch.rows.start) & (self.sample < batch.rows.stop)] - batch.rows.start
        rows = rows[[not batch.trouble[row] for row in rows]]
        if not len(rows):
            return
        _, wanted = self.decide(self.exact(batch.pixels[rows]), rows + batch.rows.start)
        self.faces += len(rows)
        for task in self.tasks:
            changed = int((wanted[task] != labels[task][rows]).sum())
            self.flipped[task] = self.flipped.get(task, 0) + changed

    def go_on(self, described: Mapping[str, Any]) -> None:
        """Count on from what `describe` returned after the rows that are not asked about again."""
        self.faces, self.flipped = described["faces"], dict(described["flipped"])

    def describe(self) -> dict[str, Any]:
        """Return the number of faces asked about, and of changed classes a task."""
        return {"faces": self.faces, "flipped": dict(self.flipped)}

    def sentences(self, precision: str, *, compiled: bool = False) -> list[str]:
        """Return a sentence a task: the share of changed classes with its 95 % interval."""
        said, what, asked = [], precision, "asked in float32, too"
        if compiled:
            what = "compiling" if precision == "fp32" else f"compiling in {precision}"
            asked = "asked uncompiled in float32, too"
        for task, flipped in self.flipped.items():
            low, high = (
                100 * float(limit)
                for limit in wilson(np.asarray(flipped / self.faces), np.asarray(self.faces), z_value(0.95))
            )
            said.append(
                f"{what} changes the predicted {task} of {flipped} of {self.faces} faces {asked} "
                f"({100 * flipped / self.faces:.1f} %, 95 % interval {low:.1f} to {high:.1f} %)"
            )
        return said
