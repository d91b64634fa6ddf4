"""A stage is skipped when nothing changed, and done again when anything did."""

from pathlib import Path

import pytest

from fairaudit.errors import UsageError
from fairaudit.files import claim
from fairaudit.stages import RECORD, claim_run, stage


def do(out: Path, inputs: dict, text: str = "x") -> bool:
    """Run one stage that writes one file."""
    return stage(out, "s", inputs, ["o.txt"], lambda: void((out / "o.txt").write_text(text)), lambda line: None)


def void(value: object) -> None:
    """Take a value."""


def test_skipped_when_unchanged_and_done_when_inputs_or_outputs_changed(tmp_path: Path) -> None:
    """Inputs, missing outputs and outputs somebody edited each count as a change."""
    assert do(tmp_path, {"a": 1})
    assert not do(tmp_path, {"a": 1})
    assert do(tmp_path, {"a": 2})
    (tmp_path / "o.txt").write_text("edited")
    assert do(tmp_path, {"a": 2})
    (tmp_path / "o.txt").unlink()
    assert do(tmp_path, {"a": 2})


def test_a_stage_that_failed_is_done_again(tmp_path: Path) -> None:
    """The record is written only after the work."""

    def fail() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stage(tmp_path, "s", {}, ["o.txt"], fail, lambda line: None)
    claim(tmp_path, "run", RECORD)  # the folder of a run that was killed early still counts as ours
    assert do(tmp_path, {})


def test_a_damaged_record_is_refused(tmp_path: Path) -> None:
    """It is never guessed what was done."""
    (tmp_path / RECORD).write_text("{", encoding="utf-8")
    with pytest.raises(UsageError, match="damaged"):
        do(tmp_path, {})


def test_a_folder_keeps_to_one_run(tmp_path: Path) -> None:
    """The same run goes on and its stages keep their notes; a run of another name is refused."""
    claim_run(tmp_path / "out", "one")
    assert do(tmp_path / "out", {"a": 1})
    claim_run(tmp_path / "out", "one")
    assert not do(tmp_path / "out", {"a": 1})
    with pytest.raises(UsageError, match="holds the run 'one', not 'two'"):
        claim_run(tmp_path / "out", "two")
