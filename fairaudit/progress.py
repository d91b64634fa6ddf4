"""How long work reports progress without printing: layers below the command line call a function they were given."""

from typing import Protocol


class Progress(Protocol):
    """Called as `progress(stage, done, total)`; `done == total` ends the stage, `note` is a short text.

    With `total == 0` there is no step: `note` is a remark that a person should read.
    """

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None: ...


def silent(stage: str, done: int, total: int, note: str = "") -> None:
    """Report nothing: the default everywhere outside the command line."""
