"""Curves of training for TensorBoard, an optional extra."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fairaudit.errors import UsageError

_EVENTS = "events.out.tfevents.*"
_TAGS = {
    "train_loss": "loss/train",
    "val_loss": "loss/validation",
    "val_score": "score/validation",
    "val_mae_years": "error/age_years",
}


class Curves:
    """Writes each epoch to `folder` for TensorBoard, or nothing where it is None.

    `history` has the epochs that an earlier call has done; events of an earlier training are removed.
    Raises UsageError where the package is not installed.
    """

    def __init__(self, folder: Path | None, history: Sequence[Mapping[str, Any]] = ()) -> None:
        self._writer: Any = None
        self._epochs = 0
        if folder is None:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise UsageError(
                "training.tensorboard = true needs the package tensorboard: pip install 'fairaudit[tensorboard]', "
                "or give tensorboard = false (the report draws the curves without it)"
            ) from None
        for stale in folder.glob(_EVENTS):
            stale.unlink()
        self._writer = SummaryWriter(str(folder))
        for row in history:
            self.add(row)

    def add(self, row: Mapping[str, Any]) -> None:
        """Write one epoch, a row of the history; epochs are numbered through all stages."""
        self._epochs += 1
        if self._writer is None:
            return
        for name, value in row.items():
            if isinstance(value, float):
                self._writer.add_scalar(_tag(name), value, self._epochs)
        self._writer.flush()

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.close()


def _tag(name: str) -> str:
    if name.startswith("val_accuracy_"):
        return f"accuracy/{name.removeprefix('val_accuracy_')}"
    return _TAGS.get(name, f"speed/{name}")
